//! Addresses: the identity of a server as a value.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

use crate::{
    api::server::Server,
    codec::{self, DecodeError},
    engine::{context::AnyAddress, erased::AnyInit},
    id::{
        ServerId,
        key::{IntoKey, KeyType, key_of},
    },
    support::catch::Guarded,
};

/// The address of a server, as a value: its type, its key, and optional init arguments.
///
/// An address needs no runtime, and its server need not run or exist. It can be stored in the state
/// of another server, sent in a message, or written to a file.
/// [`Runtime::client`](crate::Runtime::client) turns it into a client, and so does
/// [`Context::client_of`](crate::Context::client_of) in a handler.
///
/// A client of an address with init arguments creates the server at its first message if nothing is
/// stored under the key. Without init arguments the server must exist: its messages fail with
/// [`CallError::NotFound`](crate::CallError::NotFound) otherwise.
///
/// Two addresses are equal if they have the same type and key. The init arguments are not compared.
///
/// # When the other type changes
///
/// A stored address can be read whatever becomes of its server type, so that the state that contains
/// it can be read. The init arguments are encoded on their own within the address.
///
/// - If the type's init arguments have changed so that the stored ones do not decode,
///   [`init`](Self::init) returns `None`. A message creates no server then, but fails with
///   [`CallError::Init`](crate::CallError::Init).
/// - If the type has another [`NAME`](Server::NAME), the address still has the stored kind, and
///   messages fail with [`CallError::OtherKind`](crate::CallError::OtherKind).
///
/// In both cases the address is stored again as it was. An address does not decode if its key is not
/// one of the type's [`Key`](Server::Key).
///
/// ```
/// # use persistent_runtime::{persistent_server, Address, Client, Runtime};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Default, Serialize, Deserialize)] struct Player { score: u64 }
/// # #[persistent_server] impl Player { pub fn add(&mut self, n: u64) -> u64 { self.score += n; self.score } }
/// #[derive(Default, Serialize, Deserialize)]
/// struct Team { captain: Option<Address<Player>> }
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let runtime = Runtime::in_memory().await?;
/// let team = Team { captain: Some(runtime.at::<Player>("vorpal", ()).address()) };
/// let captain = runtime.client(&team.captain.unwrap());
/// assert_eq!(captain.add(5).await?, 5);
/// # Ok(()) }
/// ```
pub struct Address<S: Server> {
    key: Arc<str>,
    init: Option<InitArguments<S>>,
}

/// Init arguments, if they could be read.
type InitArguments<S> = Result<Arc<Guarded<<S as Server>::Init>>, Arc<Unread>>;

/// The part of a stored address that this program cannot use, kept to be stored again.
pub(crate) struct Unread {
    kind: String,
    init: Option<Vec<u8>>,
    /// The reason why the init arguments do not decode; `None` if they are of another kind.
    error: Option<DecodeError>,
}

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the init arguments of its address do not decode")?;
        self.error.as_ref().map_or(Ok(()), |error| write!(f, ": {error}"))
    }
}

impl<S: Server> Address<S> {
    /// Creates the address of the server under `key`, with the arguments of its `#[init]` function.
    pub fn new(key: impl IntoKey<S::Key>, init: S::Init) -> Self {
        Self { key: key.into_key(), init: Some(Ok(Arc::new(Guarded::new(init)))) }
    }

    /// Creates the address of the server under `key`, which must exist.
    pub fn existing(key: impl IntoKey<S::Key>) -> Self {
        Self { key: key.into_key(), init: None }
    }

    pub(crate) fn from_any(address: &AnyAddress) -> Self {
        let init = address.init.clone().and_then(|init| match init.downcast() {
            Ok(init) => Some(Ok(init)),
            Err(unread) => unread.downcast().ok().map(Err),
        });
        Self { key: address.key.clone(), init }
    }

    pub(crate) fn to_any(&self) -> AnyAddress {
        let init = self.init.clone().map(|init| match init {
            Ok(init) => init as AnyInit,
            Err(unread) => unread,
        });
        AnyAddress { key: self.key.clone(), init }
    }

    /// Returns the kind that the address was stored with, if its type has another one now.
    pub(crate) fn other_kind(&self) -> Option<&str> {
        match &self.init {
            Some(Err(unread)) if unread.kind != S::NAME => Some(&unread.kind),
            _ => None,
        }
    }

    /// Returns the key of the server. Its text is `address.id().key()`.
    ///
    /// # Panics
    /// If the [`Key`](crate::Key) implementation does not read the text that it wrote.
    #[must_use]
    pub fn key(&self) -> <S::Key as KeyType>::Value<'_> {
        key_of::<S::Key>(&self.key)
    }

    /// Returns the init arguments, if the address has any that this program can read.
    #[must_use]
    pub fn init(&self) -> Option<&S::Init> {
        self.init.as_ref()?.as_ref().ok()?.get()
    }

    /// Returns the kind and the key of the server, without its type.
    #[must_use]
    pub fn id(&self) -> ServerId {
        match self.other_kind() {
            Some(kind) => ServerId::new(kind.to_owned(), self.key.clone()),
            None => ServerId::new(S::NAME, self.key.clone()),
        }
    }
}

impl<S: Server> Clone for Address<S> {
    fn clone(&self) -> Self {
        Self { key: self.key.clone(), init: self.init.clone() }
    }
}

impl<S: Server> fmt::Debug for Address<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Address")
            .field("kind", &self.other_kind().unwrap_or(S::NAME))
            .field("key", &self.key)
            .field("init", &self.init())
            .finish()
    }
}

impl<S: Server> PartialEq for Address<S> {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key && self.other_kind() == other.other_kind()
    }
}

impl<S: Server> Eq for Address<S> {}

impl<S: Server> std::hash::Hash for Address<S> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.key.hash(state);
    }
}

/// The stored form. Its kind keeps an address of one type from being used as that of another.
#[derive(Serialize, Deserialize)]
#[serde(rename = "Address")]
struct Stored<T, B> {
    kind: T,
    key: T,
    /// Encoded on their own: if they do not decode, the rest of the address still does.
    init: Option<B>,
}

impl<S: Server> Serialize for Address<S> {
    fn serialize<Z: Serializer>(&self, serializer: Z) -> Result<Z::Ok, Z::Error> {
        let encoded;
        let init = match &self.init {
            Some(Err(unread)) => unread.init.as_ref(),
            _ => match self.init() {
                Some(init) => {
                    encoded = codec::encode_nested(init).map_err(ser::Error::custom)?;
                    Some(&encoded)
                }
                None => None,
            },
        };
        Stored { kind: self.other_kind().unwrap_or(S::NAME), key: &self.key, init }
            .serialize(serializer)
    }
}

impl<'de, S: Server> Deserialize<'de> for Address<S> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Stored::<String, Vec<u8>> { kind, key, init } = Stored::deserialize(deserializer)?;
        if S::Key::parse(&key).is_none() {
            return Err(de::Error::custom(format_args!("{key:?} is not a key of a {}", S::NAME)));
        }
        let init = match init {
            init if kind != S::NAME => Some(Err(Unread { kind, init, error: None })),
            None => None,
            Some(bytes) => match codec::decode_nested::<S::Init>(&bytes) {
                Ok(init) => Some(Ok(Arc::new(Guarded::new(init)))),
                Err(error) => Some(Err(Unread { kind, init: Some(bytes), error: Some(error) })),
            },
        };
        Ok(Self { key: key.into(), init: init.map(|init| init.map_err(Arc::new)) })
    }
}
