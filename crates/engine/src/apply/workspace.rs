//! A further workspace: its name, its number, and nothing in it.

use waypost_types::WorkspaceId;

use super::{Plan, SetManifest, WorkspaceEntry};
use crate::manifest::is_name;

/// Workspaces of an installation. Every process compiles all of them with each set and labels its figures with their names; a
/// hundred were measured (docs/performance.md), and ten times as many is what still compiles while somebody waits.
const WORKSPACES_MAX: usize = 1_000;

/// Why a workspace is not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WorkspaceRefused {
    /// That is no name.
    #[error("`{0}` is no name of a workspace: a name is [a-z][a-z0-9-]{{0,62}}")]
    Name(String),
    /// There is one of that name.
    #[error("there is a workspace `{0}` already")]
    Taken(String),
    /// There are as many as there may be.
    #[error("an installation has at most {WORKSPACES_MAX} workspaces")]
    Full,
}

/// Plans a further workspace under the next number, and says which that is.
///
/// States, timers, public rows and write keys carry the number alone, so one must never mean two workspaces. That is why
/// workspaces are not deleted: all that is in force stands in the present set, and the highest number in it is the highest that
/// was ever given.
///
/// # Errors
/// [`WorkspaceRefused`]; then nothing is changed.
pub fn plan_workspace(current: &SetManifest, name: &str) -> Result<(WorkspaceId, Plan), WorkspaceRefused> {
    if !is_name(name) {
        return Err(WorkspaceRefused::Name(name.to_owned()));
    }
    if current.workspace(name).is_some() {
        return Err(WorkspaceRefused::Taken(name.to_owned()));
    }
    if current.workspaces.len() >= WORKSPACES_MAX {
        return Err(WorkspaceRefused::Full);
    }
    // 0 belongs to nobody.
    let highest = current.workspaces.iter().map(|workspace| workspace.id).max().unwrap_or(0);
    let id = highest.checked_add(1).ok_or(WorkspaceRefused::Full)?;
    let mut next = current.clone();
    next.number = current.number + 1;
    next.workspaces.push(WorkspaceEntry { id, name: name.to_owned() });
    Ok((WorkspaceId::new(id), Plan { next, items: Vec::new(), bodies: Vec::new() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(workspaces: &[(u32, &str)]) -> SetManifest {
        let workspaces = workspaces.iter().map(|(id, name)| WorkspaceEntry { id: *id, name: (*name).to_owned() }).collect();
        SetManifest { number: 7, workspaces, definitions: Vec::new() }
    }

    #[test]
    fn a_workspace_has_the_number_behind_the_highest() {
        for (there, number) in [
            (&[(1, "default")][..], 2),
            (&[(1, "default"), (2, "shop")][..], 3),
            // a gap is never filled: what had that number may still lie somewhere
            (&[(1, "default"), (9, "shop")][..], 10),
            (&[(9, "shop"), (1, "default")][..], 10),
            (&[][..], 1),
        ] {
            let current = with(there);
            let (id, plan) = plan_workspace(&current, "new").unwrap();
            assert_eq!(id.number(), number, "{there:?}");
            assert!(plan.is_change(&current) && plan.next.number == 8);
            assert_eq!(plan.next.workspaces[..there.len()], current.workspaces[..], "the others stay as they are");
            assert_eq!((plan.next.workspace("new"), plan.next.workspace_name(id)), (Some(id), "new"));
            assert_eq!(SetManifest::from_bytes(&plan.next.to_bytes()), Some(plan.next));
        }
    }

    #[test]
    fn what_cannot_be_is_refused_by_its_reason() {
        let current = with(&[(1, "default")]);
        for bad in ["", "Shop", "1shop", "-shop", "my shop", "shop/a", "*", "größe", &"a".repeat(64)] {
            assert_eq!(plan_workspace(&current, bad).err(), Some(WorkspaceRefused::Name(bad.to_owned())), "{bad}");
        }
        assert_eq!(plan_workspace(&current, "default").err(), Some(WorkspaceRefused::Taken("default".to_owned())));
        assert_eq!(plan_workspace(&with(&[(u32::MAX, "last")]), "shop").err(), Some(WorkspaceRefused::Full));
        let names: Vec<String> = (1..=WORKSPACES_MAX).map(|n| format!("w{n}")).collect();
        let all: Vec<(u32, &str)> = (1..).zip(names.iter().map(String::as_str)).collect();
        assert!(plan_workspace(&with(&all[1..]), &"a".repeat(63)).is_ok());
        assert_eq!(plan_workspace(&with(&all), "shop").err(), Some(WorkspaceRefused::Full));
    }

    #[test]
    fn sets_of_before_are_read_as_they_were() {
        let stored = br#"{"number":3,"workspaces":[{"id":1,"name":"default"}],"definitions":[]}"#;
        let current = SetManifest::from_bytes(stored).unwrap();
        assert_eq!(current.to_bytes(), &stored[..]);
        let (_, plan) = plan_workspace(&current, "shop").unwrap();
        let text = br#"{"number":4,"workspaces":[{"id":1,"name":"default"},{"id":2,"name":"shop"}],"definitions":[]}"#;
        assert_eq!(plan.next.to_bytes(), &text[..]);
    }
}
