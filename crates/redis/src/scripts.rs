//! The scripts, and calling them: by hash, loaded again when the server has forgotten them.

use redis::{RedisError, ServerErrorKind, Value};
use waypost_runtime::ports::StoreError;

use crate::connection::{Connection, refusal};

/// One script and its hash.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    code: &'static str,
    hash: String,
}

/// Those of PROTOCOL §5.1 and §5.2, as printed there, and administration's.
#[derive(Clone, Debug)]
pub(crate) struct Scripts {
    pub(crate) init: Script,
    pub(crate) claim: Script,
    pub(crate) release: Script,
    pub(crate) freeze: Script,
    pub(crate) thaw: Script,
}

// === impl Scripts ===

impl Scripts {
    pub(crate) fn new() -> Self {
        let of = |code| Script { code, hash: redis::Script::new(code).get_hash().to_owned() };
        Self {
            init: of(include_str!("scripts/init.lua")),
            claim: of(include_str!("scripts/claim.lua")),
            release: of(include_str!("scripts/release.lua")),
            freeze: of(include_str!("scripts/freeze.lua")),
            thaw: of(include_str!("scripts/thaw.lua")),
        }
    }
}

// === impl Script ===

impl Script {
    /// Calls it. A reply is an array whose first element is a word of ours.
    pub(crate) async fn call(&self, connection: &Connection, keys: &[String], args: &[Vec<u8>]) -> Result<Vec<Value>, StoreError> {
        let mut call = redis::cmd("EVALSHA");
        call.arg(&self.hash).arg(keys.len()).arg(keys).arg(args);
        let reply = match connection.query(&call).await? {
            Err(error) if forgotten(&error) => {
                let mut load = redis::cmd("SCRIPT");
                load.arg("LOAD").arg(self.code);
                connection.query(&load).await?.map_err(|e| refusal(&e))?;
                connection.query(&call).await?
            }
            reply => reply,
        };
        let Value::Array(values) = reply.map_err(|e| refusal(&e))? else {
            return Err(StoreError::Refused("a script answered with something else than an array".into()));
        };
        Ok(values)
    }
}

fn forgotten(error: &RedisError) -> bool {
    error.kind() == redis::ErrorKind::Server(ServerErrorKind::NoScript)
}
