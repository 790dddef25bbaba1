//! The generated programs: the same servers, written for each contender.
//!
//! Both programs have N types. Each type has the same three fields, the same five methods
//! with the same bodies, and a function that starts one server of the type and sends it one
//! message per method: four calls and one cast. Both use the attribute macros of their
//! library, both derive serde's traits for the state, and both derive them for the messages.

use std::fmt::Write;

/// A contender.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// This library. Each server is loaded from a database and saved there.
    Persistent,
    /// kameo's actors, with serde's derives on state and messages. Nothing is saved, so rustc
    /// checks the derived code and generates none of it.
    Kameo,
    /// The same without serde, which an actor without persistence does not need.
    KameoPlain,
    /// kameo's actors that encode their state with `rmp_serde` after each change and decode
    /// it at their start: the least code of a type that saves its state by hand.
    KameoSaving,
}

impl Program {
    /// Every contender, the measured library first.
    pub const ALL: [Self; 4] = [Self::Persistent, Self::Kameo, Self::KameoPlain, Self::KameoSaving];

    /// Returns the name of the crate, which is also the name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Persistent => "persistent",
            Self::Kameo => "kameo",
            Self::KameoPlain => "kameo_plain",
            Self::KameoSaving => "kameo_saving",
        }
    }

    /// Returns `[dependencies]` of the manifest. `runtime` is the path of
    /// `persistent-runtime`.
    pub fn dependencies(self, runtime: &str) -> String {
        let tokio = r#"tokio = { version = "1", default-features = false, features = ["rt-multi-thread"] }"#;
        let kameo =
            r#"kameo = { version = "0.22", default-features = false, features = ["macros"] }"#;
        let serde = r#"serde = { version = "1", features = ["derive"] }"#;
        let lines = match self {
            Self::Persistent => {
                vec![format!("persistent-runtime = {{ path = {runtime:?} }}"), serde.to_owned()]
            }
            Self::Kameo => vec![kameo.to_owned(), serde.to_owned()],
            Self::KameoPlain => vec![kameo.to_owned()],
            Self::KameoSaving => {
                vec![kameo.to_owned(), serde.to_owned(), r#"rmp-serde = "1""#.to_owned()]
            }
        };
        format!("[dependencies]\n{}\n{tokio}\n", lines.join("\n"))
    }

    /// Returns `main.rs` with `types` server types.
    pub fn source(self, types: u32) -> String {
        let mut source = String::new();
        for nth in 0..types {
            let module = match self {
                Self::Persistent => PERSISTENT,
                Self::Kameo => KAMEO,
                Self::KameoPlain => KAMEO_PLAIN,
                Self::KameoSaving => KAMEO_SAVING,
            };
            let module = module.replace("Account", &format!("Account{nth}"));
            append(&mut source, &format!("mod account_{nth} {{{module}}}\n\n"));
        }
        source.push_str(match self {
            Self::Persistent => PERSISTENT_MAIN,
            Self::Kameo | Self::KameoPlain => KAMEO_MAIN,
            Self::KameoSaving => KAMEO_SAVING_MAIN,
        });
        let context = if self == Self::Persistent { "&runtime" } else { "" };
        for nth in 0..types {
            append(&mut source, &format!("        total += account_{nth}::run({context}).await;"));
        }
        source.push_str("        println!(\"{total}\");\n    });\n}\n");
        source
    }
}

fn append(source: &mut String, line: &str) {
    writeln!(source, "{line}").expect("writing to a string cannot fail");
}

const PERSISTENT_MAIN: &str = r#"
fn main() {
    let tokio = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    tokio.block_on(async {
        let runtime = persistent_runtime::Runtime::open("accounts.db").await.unwrap();
        let _ = &runtime;
        let mut total = 0_u64;
        total += 0;
"#;

const KAMEO_MAIN: &str = r"
fn main() {
    let tokio = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    tokio.block_on(async {
        let mut total = 0_u64;
        total += 0;
";

const KAMEO_SAVING_MAIN: &str = r"
/// The stored states. A database would take its place, at the same cost for all types.
static STATES: std::sync::Mutex<std::collections::BTreeMap<&str, Vec<u8>>> =
    std::sync::Mutex::new(std::collections::BTreeMap::new());

fn main() {
    let tokio = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    tokio.block_on(async {
        let mut total = STATES.lock().unwrap().len() as u64;
        total += 0;
";

const PERSISTENT: &str = r#"
    use persistent_runtime::{Runtime, persistent_server};
    use serde::{Deserialize, Serialize};

    #[derive(Default, Serialize, Deserialize)]
    pub struct Account {
        owner: String,
        balance: u64,
        notes: Vec<String>,
    }

    #[persistent_server]
    impl Account {
        pub fn balance(&self) -> u64 {
            self.balance
        }

        pub fn deposit(&mut self, amount: u64) -> u64 {
            self.balance += amount;
            self.balance
        }

        pub fn rename(&mut self, owner: String) -> String {
            std::mem::replace(&mut self.owner, owner)
        }

        pub fn recent(&self, count: u32) -> Vec<String> {
            self.notes.iter().rev().take(count as usize).cloned().collect()
        }

        #[cast]
        pub fn note(&mut self, text: String) {
            self.notes.push(text);
        }
    }

    pub async fn run(runtime: &Runtime) -> u64 {
        let account = runtime.at::<Account>("ada", ());
        account.deposit(7).await.unwrap();
        account.rename("Ada".to_owned()).await.unwrap();
        account.note("hello".to_owned()).await.unwrap();
        let notes = account.recent(1).await.unwrap();
        account.balance().await.unwrap() + notes.len() as u64
    }
"#;

const KAMEO: &str = r#"
    use kameo::{Actor, actor::Spawn, messages};
    use serde::{Deserialize, Serialize};

    #[derive(Actor, Default, Serialize, Deserialize)]
    pub struct Account {
        owner: String,
        balance: u64,
        notes: Vec<String>,
    }

    #[messages]
    impl Account {
        #[message(derive(Serialize, Deserialize))]
        pub fn balance(&self) -> u64 {
            self.balance
        }

        #[message(derive(Serialize, Deserialize))]
        pub fn deposit(&mut self, amount: u64) -> u64 {
            self.balance += amount;
            self.balance
        }

        #[message(derive(Serialize, Deserialize))]
        pub fn rename(&mut self, owner: String) -> String {
            std::mem::replace(&mut self.owner, owner)
        }

        #[message(derive(Serialize, Deserialize))]
        pub fn recent(&self, count: u32) -> Vec<String> {
            self.notes.iter().rev().take(count as usize).cloned().collect()
        }

        #[message(derive(Serialize, Deserialize))]
        pub fn note(&mut self, text: String) {
            self.notes.push(text);
        }
    }

    pub async fn run() -> u64 {
        let account = Account::spawn(Account::default());
        account.ask(Deposit { amount: 7 }).await.unwrap();
        account.ask(Rename { owner: "Ada".to_owned() }).await.unwrap();
        account.tell(Note { text: "hello".to_owned() }).await.unwrap();
        let notes = account.ask(Recent { count: 1 }).await.unwrap();
        account.ask(Balance).await.unwrap() + notes.len() as u64
    }
"#;

const KAMEO_PLAIN: &str = r#"
    use kameo::{Actor, actor::Spawn, messages};

    #[derive(Actor, Default)]
    pub struct Account {
        owner: String,
        balance: u64,
        notes: Vec<String>,
    }

    #[messages]
    impl Account {
        #[message]
        pub fn balance(&self) -> u64 {
            self.balance
        }

        #[message]
        pub fn deposit(&mut self, amount: u64) -> u64 {
            self.balance += amount;
            self.balance
        }

        #[message]
        pub fn rename(&mut self, owner: String) -> String {
            std::mem::replace(&mut self.owner, owner)
        }

        #[message]
        pub fn recent(&self, count: u32) -> Vec<String> {
            self.notes.iter().rev().take(count as usize).cloned().collect()
        }

        #[message]
        pub fn note(&mut self, text: String) {
            self.notes.push(text);
        }
    }

    pub async fn run() -> u64 {
        let account = Account::spawn(Account::default());
        account.ask(Deposit { amount: 7 }).await.unwrap();
        account.ask(Rename { owner: "Ada".to_owned() }).await.unwrap();
        account.tell(Note { text: "hello".to_owned() }).await.unwrap();
        let notes = account.ask(Recent { count: 1 }).await.unwrap();
        account.ask(Balance).await.unwrap() + notes.len() as u64
    }
"#;

const KAMEO_SAVING: &str = r#"
    use kameo::{
        Actor,
        actor::{ActorRef, Spawn},
        messages,
    };
    use serde::{Deserialize, Serialize};

    #[derive(Default, Serialize, Deserialize)]
    pub struct Account {
        owner: String,
        balance: u64,
        notes: Vec<String>,
    }

    impl Actor for Account {
        type Args = &'static str;
        type Error = rmp_serde::decode::Error;

        async fn on_start(key: &'static str, _: ActorRef<Self>) -> Result<Self, Self::Error> {
            match crate::STATES.lock().unwrap().get(key) {
                Some(state) => rmp_serde::from_slice(state),
                None => Ok(Self::default()),
            }
        }
    }

    impl Account {
        fn save(&self) {
            let state = rmp_serde::to_vec_named(self).unwrap();
            crate::STATES.lock().unwrap().insert("Account", state);
        }
    }

    #[messages]
    impl Account {
        #[message(derive(Serialize, Deserialize))]
        pub fn balance(&self) -> u64 {
            self.balance
        }

        #[message(derive(Serialize, Deserialize))]
        pub fn deposit(&mut self, amount: u64) -> u64 {
            self.balance += amount;
            self.save();
            self.balance
        }

        #[message(derive(Serialize, Deserialize))]
        pub fn rename(&mut self, owner: String) -> String {
            let before = std::mem::replace(&mut self.owner, owner);
            self.save();
            before
        }

        #[message(derive(Serialize, Deserialize))]
        pub fn recent(&self, count: u32) -> Vec<String> {
            self.notes.iter().rev().take(count as usize).cloned().collect()
        }

        #[message(derive(Serialize, Deserialize))]
        pub fn note(&mut self, text: String) {
            self.notes.push(text);
            self.save();
        }
    }

    pub async fn run() -> u64 {
        let account = Account::spawn("Account");
        account.ask(Deposit { amount: 7 }).await.unwrap();
        account.ask(Rename { owner: "Ada".to_owned() }).await.unwrap();
        account.tell(Note { text: "hello".to_owned() }).await.unwrap();
        let notes = account.ask(Recent { count: 1 }).await.unwrap();
        account.ask(Balance).await.unwrap() + notes.len() as u64
    }
"#;
