//! Keys: typed keys, and the forms in which a key can be passed.

use std::{borrow::Cow, sync::Arc};

use persistent_runtime::{
    Address, CallError, Client, Context, Key, MemoryStorage, Runtime, ServerId, persistent_server,
};
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq)]
struct UserId(u64);

impl Key for UserId {
    fn to_text(&self) -> String {
        self.0.to_text()
    }

    fn from_text(text: &str) -> Option<Self> {
        u64::from_text(text).map(Self)
    }
}

#[derive(Default, Serialize, Deserialize)]
struct Account {
    balance: u64,
}

#[persistent_server(key = UserId)]
impl Account {
    pub fn deposit(&mut self, amount: u64) -> u64 {
        self.balance += amount;
        self.balance
    }

    pub fn owner(&self, context: &Context<Self>) -> u64 {
        context.key().0
    }
}

#[derive(Default, Serialize, Deserialize)]
struct Seat {
    taken: bool,
}

#[persistent_server(key = (String, i16))]
impl Seat {
    pub fn take(&mut self, context: &Context<Self>) -> (String, i16) {
        self.taken = true;
        context.key()
    }
}

#[tokio::test]
async fn a_typed_key_reaches_the_handler_the_client_and_the_address() {
    let runtime = Runtime::in_memory().await.unwrap();
    let account = runtime.at::<Account>(UserId(17), ());
    assert_eq!(account.deposit(5).await.unwrap(), 5);
    assert_eq!(account.owner().await.unwrap(), 17);
    assert_eq!(account.key(), UserId(17));
    assert_eq!(account.address().key(), UserId(17));
    assert_eq!(account.address().id().key(), "00000000000000000017");
    assert_eq!(runtime.find::<Account>(&UserId(17)).await.unwrap().deposit(1).await.unwrap(), 6);
    let missing = runtime.find::<Account>(UserId(18)).await.unwrap_err();
    assert!(matches!(missing, CallError::NotFound { .. }), "{missing}");
    let seat = runtime.start::<Seat>(("row 1".to_owned(), -3), ()).await.unwrap();
    assert_eq!(seat.take().await.unwrap(), ("row 1".to_owned(), -3));
}

#[tokio::test]
async fn the_keys_of_a_type_are_listed_in_their_order() {
    let runtime = Runtime::in_memory().await.unwrap();
    for id in [100, 9, 11, 1] {
        runtime.start::<Account>(UserId(id), ()).await.unwrap();
    }
    let (mut keys, mut listed) = (runtime.keys::<Account>(), Vec::new());
    while let Some(text) = keys.next().await {
        listed.push(UserId::from_text(&text.unwrap()).unwrap().0);
    }
    assert_eq!(listed, [1, 9, 11, 100]);
}

#[test]
fn an_address_is_read_back_only_with_a_key_of_its_type() {
    let address = Address::<Account>::new(UserId(17), ());
    let stored = serde_json::to_string(&address).unwrap();
    let read: Address<Account> = serde_json::from_str(&stored).unwrap();
    assert_eq!(read.key(), UserId(17));
    let foreign = stored.replace("00000000000000000017", "ada");
    let error = serde_json::from_str::<Address<Account>>(&foreign).unwrap_err().to_string();
    assert!(error.contains(r#""ada" is not a key of a Account"#), "{error}");
}

/// The state of a server whose type had other keys before.
#[tokio::test]
async fn a_server_whose_stored_key_has_another_type_is_not_activated() {
    #[derive(Default, Serialize, Deserialize)]
    struct Named {
        touched: bool,
    }

    #[persistent_server(name = "Account", restart = permanent)]
    impl Named {
        pub fn touch(&mut self) {
            self.touched = true;
        }
    }

    #[derive(Default, Serialize, Deserialize)]
    struct Numbered {
        touched: bool,
    }

    #[persistent_server(name = "Account", key = UserId, restart = permanent)]
    impl Numbered {
        #[started]
        fn started(&self, context: &Context<Self>) {
            let _ = context.key();
        }
    }

    let storage = MemoryStorage::new();
    let runtime = Runtime::builder().open_with(storage.clone()).await.unwrap();
    runtime.at::<Named>("ada", ()).touch().await.unwrap();
    runtime.at::<Named>(UserId(5).to_text(), ()).touch().await.unwrap();
    drop(runtime);

    let before = storage.get(&ServerId::new("Account", "ada")).unwrap();
    // Activates both stored servers.
    let runtime =
        Runtime::builder().register::<Numbered>().open_with(storage.clone()).await.unwrap();
    runtime.find::<Numbered>(UserId(5)).await.unwrap();
    assert_eq!(runtime.count::<Numbered>().await.unwrap().failed, 0);
    assert_eq!(storage.get(&ServerId::new("Account", "ada")).unwrap(), before);
}

#[tokio::test]
async fn every_form_of_a_text_is_a_key() {
    #[derive(Default, Serialize, Deserialize)]
    struct Counter(u64);

    #[persistent_server]
    impl Counter {
        pub fn add(&mut self) -> u64 {
            self.0 += 1;
            self.0
        }
    }

    let runtime = Runtime::in_memory().await.unwrap();
    let (string, boxed, shared) = ("a".to_owned(), Box::<str>::from("a"), Arc::<str>::from("a"));
    let cow = Cow::Borrowed("a");
    let clients = [
        runtime.at::<Counter>("a", ()),
        runtime.at::<Counter>(&string, ()),
        runtime.at::<Counter>(string, ()),
        runtime.at::<Counter>(&boxed, ()),
        runtime.at::<Counter>(boxed, ()),
        runtime.at::<Counter>(&shared, ()),
        runtime.at::<Counter>(shared, ()),
        runtime.at::<Counter>(&cow, ()),
        runtime.at::<Counter>(cow, ()),
    ];
    for (client, count) in clients.iter().zip(1..) {
        assert_eq!(client.add().await.unwrap(), count);
        assert_eq!(client.key(), "a");
    }
}
