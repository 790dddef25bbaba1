//! What a handler reaches around its server: extensions, other servers, work on tasks of its own.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use persistent_runtime::{
    CallError, Client, Context, MemoryStorage, Outcome, Runtime, ServerId, persistent_server,
};
use persistent_tests::{Fault, FaultyStorage};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

/// An extension.
#[derive(Clone, Default)]
struct Visits(Arc<AtomicU64>);

/// An extension: what the next piped work waits for.
#[derive(Clone, Default)]
struct Answers(Arc<Mutex<Vec<oneshot::Receiver<String>>>>);

impl Answers {
    /// Lets the next piped work wait for an answer.
    fn expect(&self) -> oneshot::Sender<String> {
        let (sender, receiver) = oneshot::channel();
        self.0.lock().unwrap().push(receiver);
        sender
    }
}

#[derive(Default, Serialize, Deserialize)]
struct Shop {
    name: String,
    news: Vec<String>,
}

#[persistent_server]
impl Shop {
    #[init]
    fn init(name: String, context: &Context<Self>) -> Self {
        if let Some(Visits(visits)) = context.extension::<Visits>() {
            visits.fetch_add(100, Relaxed);
        }
        Self { name, news: Vec::new() }
    }

    pub fn name(&self) -> String {
        self.name.clone()
    }

    pub fn visit(&self, context: &Context<Self>) -> Option<u64> {
        Some(context.extension::<Visits>()?.0.fetch_add(1, Relaxed) + 1)
    }

    pub async fn name_of(&self, key: String, context: &Context<Self>) -> Result<String, CallError> {
        context.find::<Self>(key).await?.name().await
    }

    pub async fn open_branch(
        &self,
        key: String,
        name: String,
        context: &Context<Self>,
    ) -> Result<String, CallError> {
        context.at::<Self>(key, name).name().await
    }

    pub fn ask(&self, context: &Context<Self>) {
        let Some(Answers(answers)) = context.extension() else { return };
        let Some(answer) = answers.lock().unwrap().pop() else { return };
        context.pipe(answer, |answer| ShopMessage::Hear {
            news: answer.unwrap_or_else(|_| "nothing".to_owned()),
        });
    }

    pub fn ask_and_panic(&self, context: &Context<Self>) {
        self.ask(context);
        panic!("on purpose");
    }

    #[info]
    fn hear(&mut self, news: String) {
        self.news.push(news);
    }

    pub fn news(&self) -> Vec<String> {
        self.news.clone()
    }
}

#[tokio::test]
async fn an_extension_belongs_to_its_runtime() {
    let visits = [Visits::default(), Visits::default()];
    for visits in &visits {
        let builder = Runtime::builder().extension(Visits::default()).extension(visits.clone());
        let runtime = builder.in_memory().await.unwrap();
        let shop = runtime.at::<Shop>("a", "Ada".to_owned());
        assert_eq!(shop.visit().await.unwrap(), Some(101), "the last one of a type counts");
        assert_eq!(shop.visit().await.unwrap(), Some(102));
    }
    let read = |visits: &Visits| visits.0.load(Relaxed);
    assert_eq!([read(&visits[0]), read(&visits[1])], [102, 102]);
    let runtime = Runtime::in_memory().await.unwrap();
    assert_eq!(runtime.at::<Shop>("a", "Ada".to_owned()).visit().await.unwrap(), None);
}

#[tokio::test]
async fn an_extension_is_dropped_with_the_last_client() {
    let visits = Visits::default();
    let builder = Runtime::builder().extension(visits.clone());
    let runtime = builder.in_memory().await.unwrap();
    let shop = runtime.at::<Shop>("a", "Ada".to_owned());
    shop.visit().await.unwrap();
    runtime.shutdown(Duration::from_secs(5)).await.unwrap();
    drop((runtime, shop));
    // Tasks of the runtime may be on their way out.
    while Arc::strong_count(&visits.0) > 1 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_handler_reaches_other_servers_by_key() {
    let runtime = Runtime::in_memory().await.unwrap();
    let shop = runtime.at::<Shop>("a", "Ada".to_owned());
    let missing = shop.name_of("b".to_owned()).await.unwrap().unwrap_err();
    assert!(matches!(missing, CallError::NotFound { .. }), "{missing}");
    assert_eq!(missing.server(), &ServerId::new("Shop", "b"));
    let created = shop.open_branch("b".to_owned(), "Bob".to_owned()).await.unwrap();
    assert_eq!(created.unwrap(), "Bob");
    assert_eq!(shop.name_of("b".to_owned()).await.unwrap().unwrap(), "Bob");
}

#[tokio::test]
async fn the_result_of_piped_work_is_a_message() {
    let answers = Answers::default();
    let runtime = Runtime::builder().extension(answers.clone()).in_memory().await.unwrap();
    let shop = runtime.at::<Shop>("a", "Ada".to_owned());
    let first = answers.expect();
    shop.ask().await.unwrap();
    let second = answers.expect();
    shop.ask().await.unwrap();
    assert_eq!(shop.news().await.unwrap(), [""; 0], "other messages are handled meanwhile");
    second.send("two".to_owned()).unwrap();
    while shop.news().await.unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    drop(first);
    while shop.news().await.unwrap().len() < 2 {
        tokio::task::yield_now().await;
    }
    assert_eq!(shop.news().await.unwrap(), ["two", "nothing"]);
}

#[tokio::test]
async fn piped_work_ends_with_its_activation() {
    let answers = Answers::default();
    let runtime = Runtime::builder().extension(answers.clone()).in_memory().await.unwrap();
    let shop = runtime.at::<Shop>("a", "Ada".to_owned());
    let mut answer = answers.expect();
    shop.ask_and_panic().await.unwrap_err();
    answer.closed().await;
    let mut answer = answers.expect();
    shop.ask().await.unwrap();
    shop.kill().await.unwrap();
    answer.closed().await;
    assert_eq!(shop.news().await.unwrap(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_many_concurrent_creations_succeeds() {
    let runtime = Runtime::in_memory().await.unwrap();
    for round in 0..50 {
        let creations = (0..8).map(|nth: u32| {
            let runtime = runtime.clone();
            tokio::spawn(async move {
                let created = runtime.create::<Shop>(round.to_string(), nth.to_string()).await;
                created.map(|_| nth)
            })
        });
        let mut creators = Vec::new();
        for creation in creations.collect::<Vec<_>>() {
            match creation.await.unwrap() {
                Ok(nth) => creators.push(nth.to_string()),
                Err(error) => {
                    assert!(matches!(error, CallError::AlreadyExists { .. }), "{error}");
                    assert_eq!(error.outcome(), Outcome::NotRun);
                }
            }
        }
        let shop = runtime.find::<Shop>(round.to_string()).await.unwrap();
        assert_eq!(creators, [shop.name().await.unwrap()]);
    }
}

#[tokio::test]
async fn a_server_that_is_only_stored_exists_and_is_not_activated_by_a_creation() {
    let storage = MemoryStorage::new();
    let open = || Runtime::builder().open_with(storage.clone());
    let create = async |runtime: &Runtime| runtime.create::<Shop>("a", "Bob".to_owned()).await;
    let first = open().await.unwrap();
    let shop = create(&first).await.unwrap();
    assert!(storage.get(&ServerId::new("Shop", "a")).is_some(), "stored before it returns");
    first.shutdown(Duration::from_secs(5)).await.unwrap();
    drop(shop);

    let runtime = open().await.unwrap();
    let error = create(&runtime).await.unwrap_err();
    assert!(matches!(error, CallError::AlreadyExists { .. }), "{error}");
    assert_eq!(runtime.count::<Shop>().await.unwrap().live, 0);
    runtime.find::<Shop>("a").await.unwrap().delete().await.unwrap();
    create(&runtime).await.unwrap();
}

#[tokio::test]
async fn an_error_tells_a_failed_load_from_a_failed_commit() {
    let storage = FaultyStorage::default();
    let runtime = Runtime::builder().open_with(storage.clone()).await.unwrap();
    let shop = runtime.at::<Shop>("a", "Ada".to_owned());
    storage.on_load(Fault::Refuse);
    let error = shop.name().await.unwrap_err();
    assert_eq!((error.outcome(), error.is_retryable()), (Outcome::NotRun, true), "{error}");
    storage.on_load(Fault::None);
    storage.on_commit(Fault::Refuse);
    let error = shop.name().await.unwrap_err();
    assert_eq!((error.outcome(), error.is_retryable()), (Outcome::Unknown, false), "{error}");
    assert!(matches!(error, CallError::Storage { .. }), "{error}");
}
