//! Ids. Every id has one byte form (stored, hashed) and one prefixed text form (shown).

use std::fmt;

use smallvec::SmallVec;

/// A workspace: one shop's isolated definitions, profiles and quotas.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkspaceId(u32);

/// The class of an identifier, strongest first (PRODUCT §5.2). The numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum IdentifierClass {
    /// The shop's own id of a person.
    UserId = 1,
    /// An e-mail address.
    Email = 2,
    /// A phone number, E.164.
    Phone = 3,
    /// A device id.
    Device = 4,
    /// A cookie.
    Anonymous = 5,
    /// `custom:<name>`, declared in `Policy`.
    Custom = 6,
}

/// Which life of an identifier: layout and position of the record that created its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation {
    /// Layout number.
    pub layout: u16,
    /// Offset of the frame in `wp1.identity`.
    pub offset: u64,
    /// Index of the record in the frame.
    pub index: u32,
}

/// An identifier's place in the identity graph; no node id is ever used twice.
///
/// Byte form, 31 bytes: class ‖ hash ‖ layout BE ‖ offset BE ‖ index BE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Node {
    /// Class of the identifier.
    pub class: IdentifierClass,
    /// Its keyed hash.
    pub hash: IdentifierHash,
    /// Its life.
    pub generation: Generation,
}

/// Why bytes or text are not an id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a {0}")]
pub struct IdError(&'static str);

macro_rules! bytes_id {
    ($(#[$doc:meta])* $name:ident, $len:literal, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $len]);

        impl $name {
            /// From its byte form.
            pub const fn new(bytes: [u8; $len]) -> Self { Self(bytes) }
            /// From stored bytes; an error if the length is wrong.
            pub fn from_slice(bytes: &[u8]) -> Result<Self, IdError> {
                bytes.try_into().map(Self).map_err(|_| IdError(stringify!($name)))
            }
            /// Its byte form.
            pub const fn as_bytes(&self) -> &[u8; $len] { &self.0 }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { fmt::Display::fmt(self, f) }
        }

        impl std::str::FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                let error = IdError(stringify!($name));
                let digits = text.strip_prefix($prefix).ok_or_else(|| error.clone())?;
                let bytes = hex::decode(digits).map_err(|_| error)?;
                Self::from_slice(&bytes)
            }
        }
    };
}

bytes_id!(
    /// Keyed BLAKE3 of (workspace, class, normalised value); the key is the install id.
    IdentifierHash, 16, "ih_"
);
bytes_id!(
    /// The person: the byte form of the node that founded it.
    ProfileId, 31, "prf_"
);
bytes_id!(
    /// Id of a record; for an event the hash of its message id.
    RecordId, 16, "rec_"
);
bytes_id!(
    /// Id of a run: hash(workspace, journey, profile, key, cause).
    RunId, 16, "run_"
);
bytes_id!(
    /// Id of a send: hash(run, step, visit).
    SendId, 16, "snd_"
);
bytes_id!(
    /// Id of one leg of a send to one address.
    DispatchId, 16, "dsp_"
);
bytes_id!(
    /// Content hash of a definition's body: BLAKE3, first 16 bytes.
    ContentHash, 16, "sha_"
);

/// Id of a stored entity within its partition: workspace u32 BE ‖ kind ‖ key. The longest of ours, a profile's, has 36 bytes;
/// ids are looked up and handed on several times an event, so that these lie in place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntityId(SmallVec<[u8; 40]>);

// === impl EntityId ===

impl EntityId {
    /// The entity of `kind` (an identifier `i`, a profile `p`, a dispatch `d`, an address `a`) under `key`.
    pub fn new(workspace: WorkspaceId, kind: u8, key: &[u8]) -> Self {
        let mut bytes = SmallVec::from_slice(&workspace.0.to_be_bytes());
        bytes.push(kind);
        bytes.extend_from_slice(key);
        Self(bytes)
    }

    /// From stored bytes.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Self(SmallVec::from_slice(bytes))
    }

    /// Its byte form.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The workspace it belongs to; 0 if the bytes are too short.
    pub fn workspace(&self) -> WorkspaceId {
        let mut number = [0; 4];
        if let Some(head) = self.0.get(..4) {
            number.copy_from_slice(head);
        }
        WorkspaceId(u32::from_be_bytes(number))
    }

    /// Its kind; 0 if the bytes are too short.
    pub fn kind(&self) -> u8 {
        self.0.get(4).copied().unwrap_or(0)
    }

    /// Its key within workspace and kind.
    pub fn key(&self) -> &[u8] {
        self.0.get(5..).unwrap_or(&[])
    }

    /// Which of the 16 state buckets holds it: the top four bits of its hash.
    pub fn bucket(&self) -> u8 {
        u8::try_from(xxhash_rust::xxh3::xxh3_64(&self.0) >> 60).unwrap_or(0)
    }
}

// === impl WorkspaceId ===

impl WorkspaceId {
    /// From its number; 0 means "none" and belongs to records of the installation itself.
    pub const fn new(number: u32) -> Self {
        Self(number)
    }
    /// Its number.
    pub const fn number(self) -> u32 {
        self.0
    }
}

impl fmt::Display for WorkspaceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

// === impl IdentifierClass ===

impl IdentifierClass {
    /// All, strongest first.
    pub const ALL: [Self; 6] = [Self::UserId, Self::Email, Self::Phone, Self::Device, Self::Anonymous, Self::Custom];

    /// The class with this stored number.
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|c| u32::from(*c as u8) == number)
    }

    /// Its stored number.
    pub const fn number(self) -> u32 {
        self as u32
    }

    /// Its word (`custom` stands before a colon and a name).
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UserId => "user_id",
            Self::Email => "email",
            Self::Phone => "phone",
            Self::Device => "device",
            Self::Anonymous => "anonymous",
            Self::Custom => "custom",
        }
    }
}

// === impl IdentifierHash ===

impl IdentifierHash {
    /// The hash of a normalised value under the installation's key.
    ///
    /// `custom` is the name behind `custom:`, else empty.
    pub fn of(install: &[u8; 32], workspace: WorkspaceId, class: IdentifierClass, custom: &str, value: &str) -> Self {
        let mut hasher = blake3::Hasher::new_keyed(install);
        hasher.update(&workspace.0.to_be_bytes());
        hasher.update(&[class as u8]);
        hasher.update(&u32::try_from(custom.len()).unwrap_or(u32::MAX).to_be_bytes());
        hasher.update(custom.as_bytes());
        hasher.update(value.as_bytes());
        let mut bytes = [0; 16];
        hasher.finalize_xof().fill(&mut bytes);
        Self(bytes)
    }
}

// === impl Node ===

impl Node {
    /// Its byte form.
    pub fn to_bytes(self) -> [u8; 31] {
        let mut bytes = [0; 31];
        bytes[0] = self.class as u8;
        bytes[1..17].copy_from_slice(self.hash.as_bytes());
        bytes[17..19].copy_from_slice(&self.generation.layout.to_be_bytes());
        bytes[19..27].copy_from_slice(&self.generation.offset.to_be_bytes());
        bytes[27..31].copy_from_slice(&self.generation.index.to_be_bytes());
        bytes
    }

    /// From its byte form.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, IdError> {
        let error = IdError("Node");
        let bytes: [u8; 31] = bytes.try_into().map_err(|_| error.clone())?;
        let class = IdentifierClass::from_number(u32::from(bytes[0])).ok_or(error)?;
        let mut hash = [0; 16];
        hash.copy_from_slice(&bytes[1..17]);
        let mut layout = [0; 2];
        layout.copy_from_slice(&bytes[17..19]);
        let mut offset = [0; 8];
        offset.copy_from_slice(&bytes[19..27]);
        let mut index = [0; 4];
        index.copy_from_slice(&bytes[27..31]);
        Ok(Self {
            class,
            hash: IdentifierHash(hash),
            generation: Generation {
                layout: u16::from_be_bytes(layout),
                offset: u64::from_be_bytes(offset),
                index: u32::from_be_bytes(index),
            },
        })
    }

    /// The profile that this node founds.
    pub fn profile(self) -> ProfileId {
        ProfileId(self.to_bytes())
    }

    /// Whether this node is above `other` in the order of joining: class, then hash, then generation.
    /// Parents are always above, so links cannot cycle (PROTOCOL §10.1).
    pub fn outranks(&self, other: &Self) -> bool {
        (self.class, self.hash, self.generation) < (other.class, other.hash, other.generation)
    }
}

// === impl ProfileId ===

impl ProfileId {
    /// The node that founded the profile.
    pub fn node(&self) -> Result<Node, IdError> {
        Node::from_slice(&self.0)
    }
}

// === impl ContentHash ===

impl ContentHash {
    /// The hash of a body.
    pub fn of(body: &[u8]) -> Self {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&blake3::hash(body).as_bytes()[..16]);
        Self(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_bytes_come_back() {
        let node = Node {
            class: IdentifierClass::Email,
            hash: IdentifierHash::new([7; 16]),
            generation: Generation { layout: 1, offset: 99, index: 3 },
        };
        assert_eq!(Node::from_slice(&node.to_bytes()), Ok(node));
        assert_eq!(node.profile().to_string().parse::<ProfileId>(), Ok(node.profile()));
    }

    #[test]
    fn stronger_classes_outrank_weaker_ones() {
        let node =
            |class, byte| Node { class, hash: IdentifierHash::new([byte; 16]), generation: Generation { layout: 1, offset: 0, index: 0 } };
        assert!(node(IdentifierClass::UserId, 9).outranks(&node(IdentifierClass::Email, 1)));
        assert!(node(IdentifierClass::Email, 1).outranks(&node(IdentifierClass::Email, 2)));
    }
}
