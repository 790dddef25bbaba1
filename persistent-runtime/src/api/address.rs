//! Addresses: the identity of a server as a value.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{
    api::server::Server,
    engine::{context::AnyAddress, erased::AnyInit},
    id::{
        ServerId,
        key::{IntoKey, KeyType, key_of},
    },
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
    init: Option<Arc<S::Init>>,
}

impl<S: Server> Address<S> {
    /// Creates the address of the server under `key`, with the arguments of its `#[init]` function.
    pub fn new(key: impl IntoKey<S::Key>, init: S::Init) -> Self {
        Self { key: key.into_key(), init: Some(Arc::new(init)) }
    }

    /// Creates the address of the server under `key`, which must exist.
    pub fn existing(key: impl IntoKey<S::Key>) -> Self {
        Self { key: key.into_key(), init: None }
    }

    pub(crate) fn from_any(address: &AnyAddress) -> Self {
        let init = address.init.clone().and_then(|init| init.downcast::<S::Init>().ok());
        Self { key: address.key.clone(), init }
    }

    pub(crate) fn to_any(&self) -> AnyAddress {
        AnyAddress { key: self.key.clone(), init: self.init.clone().map(|init| init as AnyInit) }
    }

    /// Returns the key of the server. Its text is `address.id().key()`.
    ///
    /// # Panics
    /// If the [`Key`](crate::Key) implementation does not read the text that it wrote.
    #[must_use]
    pub fn key(&self) -> <S::Key as KeyType>::Value<'_> {
        key_of::<S::Key>(&self.key)
    }

    /// Returns the init arguments, if the address has any.
    #[must_use]
    pub fn init(&self) -> Option<&S::Init> {
        self.init.as_deref()
    }

    /// Returns the kind and the key of the server, without its type.
    #[must_use]
    pub fn id(&self) -> ServerId {
        ServerId::new(S::NAME, self.key.clone())
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
            .field("kind", &S::NAME)
            .field("key", &self.key)
            .field("init", &self.init)
            .finish()
    }
}

impl<S: Server> PartialEq for Address<S> {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl<S: Server> Eq for Address<S> {}

impl<S: Server> std::hash::Hash for Address<S> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.key.hash(state);
    }
}

/// The stored form. Its kind keeps an address of one type from being read as that of another.
#[derive(Serialize, Deserialize)]
#[serde(rename = "Address")]
struct Stored<K, I> {
    kind: K,
    key: K,
    /// In a tuple: formats write `Some(())` in the same way as `None`.
    init: Option<(I,)>,
}

impl<S: Server> Serialize for Address<S> {
    fn serialize<Z: Serializer>(&self, serializer: Z) -> Result<Z::Ok, Z::Error> {
        let init = self.init.as_deref().map(|init| (init,));
        Stored { kind: S::NAME, key: &self.key, init }.serialize(serializer)
    }
}

impl<'de, S: Server> Deserialize<'de> for Address<S> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Stored::<String, S::Init> { kind, key, init } = Stored::deserialize(deserializer)?;
        if kind != S::NAME {
            return Err(de::Error::custom(format_args!(
                "expected the address of a {}, found the address of a {kind}",
                S::NAME
            )));
        }
        if S::Key::parse(&key).is_none() {
            return Err(de::Error::custom(format_args!("{key:?} is not a key of a {kind}")));
        }
        Ok(Self { key: key.into(), init: init.map(|(init,)| Arc::new(init)) })
    }
}
