//! A user of the test server with exactly the rights that `waypost redis-acl` prints.

use std::fs;

use redis::{Value, aio::MultiplexedConnection};
use waypost_memory::contract::fresh_prefix;
use waypost_redis::{Rights, Server, set_user};

/// The user. Whoever invites him sees him off.
pub struct Guest {
    /// His name, which nobody else has.
    pub name: String,
    host: MultiplexedConnection,
    folder: tempfile::TempDir,
    url: String,
}

impl Guest {
    /// Makes a user with these rights and a password in a file.
    pub async fn invite(url: &str, prefix: &str, rights: Rights) -> Self {
        let host = redis::Client::open(url).unwrap().get_multiplexed_async_connection().await.unwrap();
        let name = format!("guest-{}", fresh_prefix().trim_end_matches('.'));
        let guest = Self { name, host, folder: tempfile::tempdir().unwrap(), url: url.to_owned() };
        guest.run(&set_user(&guest.name, prefix, rights, true).unwrap()).await;
        guest.give_password("before").await;
        guest.write_down("before");
        guest
    }

    /// Runs a command as the server's host.
    pub async fn run(&self, line: &str) -> Value {
        let mut words = line.split(' ');
        let mut command = redis::cmd(words.next().unwrap());
        for word in words {
            command.arg(word);
        }
        command.query_async(&mut self.host.clone()).await.unwrap()
    }

    /// The server knows him by this password, and by no other.
    pub async fn give_password(&self, password: &str) {
        self.run(&format!("ACL SETUSER {} resetpass >{password}", self.name)).await;
    }

    /// What lies in his file.
    pub fn write_down(&self, password: &str) {
        fs::write(self.folder.path().join("password"), format!("{password}\n")).unwrap();
    }

    /// The server, to him.
    pub fn server(&self) -> Server {
        let password_file = Some(self.folder.path().join("password"));
        Server { username: Some(self.name.clone()), password_file, ..Server::at(self.url.as_str()) }
    }

    /// He is known no more.
    pub async fn see_off(&self) {
        self.run(&format!("ACL DELUSER {}", self.name)).await;
    }
}
