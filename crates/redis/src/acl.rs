//! What a user of the server's access control lists has to be allowed, and the command that allows it and nothing else.

use redis::Cmd;

/// Whose rights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rights {
    /// Of processes that serve, of `init` and of `doctor`.
    Services,
    /// Of `backup`, `restore` and whatever else an operator calls, too.
    Administration,
}

/// Stands for a key of ours.
const KEY: &str = "{key}";

/// Each command that serving processes send, as one of its calls, which is never made; those of scripts among them, for the
/// server looks at each call of a script.
const SERVICES: &[&[&str]] = &[
    // state
    &["GET", KEY],
    &["SET", KEY, "v"],
    &["DEL", KEY],
    &["EXISTS", KEY],
    &["TYPE", KEY],
    &["PTTL", KEY],
    &["HGET", KEY, "f"],
    &["HMGET", KEY, "f"],
    &["HGETALL", KEY],
    &["HLEN", KEY],
    &["HSET", KEY, "f", "v"],
    &["HDEL", KEY, "f"],
    &["ZADD", KEY, "0", "m"],
    &["ZREM", KEY, "m"],
    &["ZCARD", KEY],
    &["ZMSCORE", KEY, "m"],
    &["ZRANGE", KEY, "0", "0"],
    // how it is changed
    &["WATCH", KEY],
    &["MULTI"],
    &["EXEC"],
    &["EVALSHA", "0000000000000000000000000000000000000000", "1", KEY],
    &["SCRIPT", "LOAD", "return 0"],
    // the connection, and what the server says of itself
    &["SELECT", "0"],
    &["ROLE"],
    &["INFO"],
    &["CLUSTER", "INFO"],
    &["CLUSTER", "NODES"],
    SLOTS,
];

/// Which only somebody needs who is told that there is a cluster.
const SLOTS: &[&str] = &["CLUSTER", "SLOTS"];

/// Of administration besides.
const ADMINISTRATION: &[&[&str]] = &[&["HEXISTS", KEY, "f"], &["UNLINK", KEY]];

/// It also gives away the server's own passwords, so who has had the settings checked by hand does without.
const SETTINGS: &[&str] = &["CONFIG", "GET", "maxmemory"];

/// First words that name no command before their second.
const PARENTS: [&str; 3] = ["SCRIPT", "CLUSTER", "CONFIG"];

/// `ACL SETUSER …`: `user` may do what is needed with keys of the installation under `prefix`, and nothing else. It keeps its
/// passwords. `asks_settings`: the doctor reads the server's settings, which nobody vouches for.
///
/// # Errors
/// A name that such a command cannot hold.
pub fn set_user(user: &str, prefix: &str, rights: Rights, asks_settings: bool) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:@".contains(c);
    if user.is_empty() || !user.chars().all(plain) {
        return Err("the name of a user is made of letters, digits and -_.:@ here".to_owned());
    }
    let mut words = vec![
        format!("ACL SETUSER {user} on clearselectors resetkeys ~{{{}wp1:*", literally(prefix)),
        // Redis 7 gives new users no channels, but says so only where its settings were not touched
        "resetchannels -@all".to_owned(),
    ];
    words.extend(calls(rights, asks_settings).map(|call| format!("+{}", name(call, "|").to_ascii_lowercase())));
    Ok(words.join(" "))
}

/// Calls that a serving user has to be allowed, with `key` in them: those that begin a transaction first, the one that ends it last.
pub(crate) fn probes(key: &str, is_cluster: bool) -> Vec<(String, Cmd)> {
    let place = |call: &[&str]| ["WATCH", "MULTI", "", "EXEC"].iter().position(|name| *name == call[0]).unwrap_or(2);
    let mut calls = SERVICES.to_vec();
    calls.retain(|call| is_cluster || *call != SLOTS);
    calls.sort_by_key(|call| place(call));
    let command = |call: &[&str]| {
        let mut command = redis::cmd(call[0]);
        for word in &call[1..] {
            command.arg(if *word == KEY { key } else { word });
        }
        command
    };
    calls.into_iter().map(|call| (name(call, " "), command(call))).collect()
}

fn calls(rights: Rights, asks_settings: bool) -> impl Iterator<Item = &'static [&'static str]> {
    let further = if rights == Rights::Administration { ADMINISTRATION } else { &[] };
    SERVICES.iter().chain(further).copied().chain(asks_settings.then_some(SETTINGS))
}

/// A command's name, and its second word where that belongs to it.
fn name(call: &[&str], between: &str) -> String {
    if PARENTS.contains(&call[0]) { [call[0], call[1]].join(between) } else { call[0].to_owned() }
}

/// A text in a pattern of keys, standing for itself.
fn literally(text: &str) -> String {
    text.chars().flat_map(|c| "*?[]\\".contains(c).then_some('\\').into_iter().chain([c])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_names_user_keys_and_commands() {
        let line = set_user("waypost", "shop.", Rights::Services, true).unwrap();
        assert!(line.starts_with("ACL SETUSER waypost on clearselectors resetkeys ~{shop.wp1:* resetchannels -@all +get +set "), "{line}");
        for right in [" +script|load ", " +watch ", " +config|get"] {
            assert!(line.contains(right), "{right}: {line}");
        }
        for more in ["unlink", "keys ", "flush", "eval ", "config|set"] {
            assert!(!line.contains(&format!("+{more}")), "{more}: {line}");
        }
        assert!(!set_user("waypost", "", Rights::Services, false).unwrap().contains("config"));
        assert!(set_user("operator", "", Rights::Administration, true).unwrap().contains(" +unlink"));
        assert!(set_user("two words", "", Rights::Services, true).is_err());
        assert!(set_user("u", "a*", Rights::Services, true).unwrap().contains(r" ~{a\*wp1:* "));
    }

    /// What nobody sends needs no right.
    #[test]
    fn each_right_is_used_by_some_call_of_ours() {
        let sources = [
            include_str!("connection.rs"),
            include_str!("doctor.rs"),
            include_str!("sentinel.rs"),
            include_str!("scripts.rs"),
            include_str!("shards.rs"),
            include_str!("store.rs"),
            include_str!("upkeep.rs"),
            include_str!("scripts/claim.lua"),
            include_str!("scripts/init.lua"),
            include_str!("scripts/release.lua"),
            include_str!("scripts/freeze.lua"),
            include_str!("scripts/thaw.lua"),
        ];
        for call in calls(Rights::Administration, true) {
            // the client selects the address' database, and pipelines begin transactions by themselves
            let is_clients = matches!(call[0], "SELECT");
            let written = [format!("\"{}\"", call[0]), format!("'{}'", call[0])];
            let is_ours = sources.iter().any(|source| written.iter().any(|word| source.contains(word)));
            assert!(is_ours || is_clients, "{} is sent by nobody", call[0]);
        }
    }
}
