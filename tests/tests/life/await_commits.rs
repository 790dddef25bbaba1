//! The option `await_commits`: an `async` handler starts only once all earlier changes of its server
//! are committed.

use std::time::Duration;

use persistent_runtime::{
    CallError, Client, Context, Options, Outcome, Persist, Runtime, ServerId, persistent_server,
};
use persistent_tests::{Fault, FaultyStorage, Request};
use serde::{Deserialize, Serialize};
use tokio::{
    join,
    time::{Instant, sleep},
};

const SECOND: Duration = Duration::from_secs(1);
const LEVELS: [Persist; 3] =
    [Persist::EveryMessage, Persist::Every(Duration::from_mins(1)), Persist::OnStop];

/// The server that is called.
#[derive(Default, Serialize, Deserialize)]
struct Supplier {
    orders: u64,
}

#[persistent_server]
impl Supplier {
    pub fn order(&mut self) -> u64 {
        self.orders += 1;
        self.orders
    }

    pub fn orders(&self) -> u64 {
        self.orders
    }
}

/// The server that calls.
#[derive(Default, Serialize, Deserialize)]
struct Shop {
    sold: u64,
}

#[persistent_server(await_commits = true, idle_timeout = never)]
impl Shop {
    pub fn sell(&mut self) -> u64 {
        self.sold += 1;
        self.sold
    }

    pub fn sold(&self) -> u64 {
        self.sold
    }

    pub async fn restock(&self, context: &Context<Self>) -> u64 {
        context.at::<Supplier>("a", ()).order().await.unwrap()
    }

    pub fn sell_and_restock(&mut self, context: &Context<Self>) -> u64 {
        context.continue_with(ShopMessage::Restock);
        self.sell()
    }

    pub fn restock_after(&self, wait: Duration, context: &Context<Self>) {
        context.remind("restock", wait, ShopMessage::Restock);
    }
}

/// Lets every commit of the shop have `fault`.
fn on_commits_of_the_shop(storage: &FaultyStorage, fault: Fault) {
    storage.script(move |request, server| match request {
        Request::Commit if server.kind() == "Shop" => fault,
        _ => Fault::None,
    });
}

/// Returns the number of sales that are stored.
fn stored(storage: &FaultyStorage) -> Option<u8> {
    let record = storage.states.get(&ServerId::new("Shop", "a"))?;
    record.state.bytes().last().copied()
}

async fn open(storage: &FaultyStorage, level: Persist) -> (Runtime, ShopClient, SupplierClient) {
    let options = Options::new().persist(level);
    let builder = Runtime::builder().configure::<Shop>(options);
    let runtime = builder.open_with(storage.clone()).await.unwrap();
    let shop = runtime.start::<Shop>("a", ()).await.unwrap();
    let supplier = runtime.at::<Supplier>("a", ());
    (runtime, shop, supplier)
}

fn outcome<T>(result: &Result<T, CallError>) -> Option<Outcome> {
    match result {
        Err(error @ CallError::Storage { .. }) => Some(error.outcome()),
        _ => None,
    }
}

#[tokio::test(start_paused = true)]
async fn an_async_handler_starts_after_the_commits_of_earlier_changes() {
    for level in LEVELS {
        let storage = FaultyStorage::default();
        let (_runtime, shop, supplier) = open(&storage, level).await;
        on_commits_of_the_shop(&storage, Fault::Slow(2 * SECOND));
        let begin = Instant::now();
        let look = async {
            sleep(SECOND).await;
            (supplier.orders().await.unwrap(), stored(&storage).unwrap_or(0))
        };
        let (sold, restocked, early) = join!(shop.sell(), shop.restock(), look);
        assert_eq!((sold.unwrap(), restocked.unwrap()), (1, 1), "{level:?}");
        assert_eq!(early, (0, 0), "{level:?}: called before the commit");
        assert_eq!((begin.elapsed().as_secs(), stored(&storage)), (2, Some(1)), "{level:?}");
    }
}

/// The layers above the attribute can turn the option off.
#[tokio::test(start_paused = true)]
async fn without_the_option_a_call_overtakes_the_commits_of_earlier_changes() {
    for level in LEVELS {
        let storage = FaultyStorage::default();
        let runtime = Runtime::builder()
            .configure::<Shop>(Options::new().persist(level))
            .variables("APP", [("APP__SHOP__AWAIT_COMMITS".to_owned(), "false".to_owned())])
            .open_with(storage.clone())
            .await
            .unwrap();
        let shop = runtime.start::<Shop>("a", ()).await.unwrap();
        on_commits_of_the_shop(&storage, Fault::RefuseLate(2 * SECOND));
        let look = async {
            sleep(SECOND).await;
            runtime.at::<Supplier>("a", ()).orders().await.unwrap()
        };
        let (sold, restocked, early) = join!(shop.sell(), shop.restock(), look);
        assert_eq!(early, 1, "{level:?}");
        let lost = (level == Persist::EveryMessage).then_some(Outcome::Unknown);
        assert_eq!((outcome(&sold), outcome(&restocked)), (lost, lost), "{level:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_async_handler_does_not_run_if_an_earlier_change_is_refused() {
    for level in LEVELS {
        let storage = FaultyStorage::default();
        let (_runtime, shop, supplier) = open(&storage, level).await;
        on_commits_of_the_shop(&storage, Fault::RefuseLate(SECOND));
        let (sold, restocked) = join!(shop.sell(), shop.restock());
        assert_eq!(outcome(&restocked), Some(Outcome::NotRun), "{level:?}: {restocked:?}");
        assert!(restocked.unwrap_err().is_retryable());
        assert_eq!(supplier.orders().await.unwrap(), 0, "{level:?}");
        // Only what was acknowledged is still there.
        let kept = u64::from(sold.is_ok());
        assert_eq!((kept == 0, shop.sold().await.unwrap()), (level == Persist::EveryMessage, kept));
        on_commits_of_the_shop(&storage, Fault::None);
        assert_eq!(shop.restock().await.unwrap(), 1, "{level:?}");
        assert_eq!(stored(&storage).map(u64::from), Some(kept), "{level:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_async_first_message_does_not_run_if_the_creation_is_refused() {
    for level in LEVELS {
        let storage = FaultyStorage::default();
        let builder = Runtime::builder().configure::<Shop>(Options::new().persist(level));
        let runtime = builder.open_with(storage.clone()).await.unwrap();
        let (shop, supplier) = (runtime.at::<Shop>("a", ()), runtime.at::<Supplier>("a", ()));
        on_commits_of_the_shop(&storage, Fault::Refuse);
        let refused = shop.restock().await;
        assert_eq!(outcome(&refused), Some(Outcome::NotRun), "{level:?}: {refused:?}");
        assert_eq!(supplier.orders().await.unwrap(), 0, "{level:?}");
        on_commits_of_the_shop(&storage, Fault::None);
        assert_eq!(shop.restock().await.unwrap(), 1, "{level:?}");
        assert_eq!(stored(&storage), Some(0), "{level:?}");
    }
}

/// So a change and the call that tells others of it are two handlers.
#[tokio::test(start_paused = true)]
async fn a_continuation_starts_after_the_commit_of_the_message_that_asked_for_it() {
    for level in LEVELS {
        let storage = FaultyStorage::default();
        let (_runtime, shop, supplier) = open(&storage, level).await;
        on_commits_of_the_shop(&storage, Fault::RefuseLate(SECOND));
        let sold = shop.sell_and_restock().await;
        assert_eq!(sold.is_err(), level == Persist::EveryMessage, "{level:?}: {sold:?}");
        sleep(2 * SECOND).await;
        assert_eq!(supplier.orders().await.unwrap(), 0, "{level:?}");
        on_commits_of_the_shop(&storage, Fault::Slow(SECOND));
        shop.sell_and_restock().await.unwrap();
        sleep(2 * SECOND).await;
        assert_eq!(supplier.orders().await.unwrap(), 1, "{level:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_reminder_is_kept_while_earlier_changes_cannot_be_committed() {
    for level in LEVELS {
        let storage = FaultyStorage::default();
        let (_runtime, shop, supplier) = open(&storage, level).await;
        shop.restock_after(10 * SECOND).await.unwrap();
        on_commits_of_the_shop(&storage, Fault::RefuseLate(2 * SECOND));
        sleep(9 * SECOND).await;
        // Its commit is in flight when the reminder is due, or it is still unsaved then.
        let sold = shop.sell().await;
        sleep(4 * SECOND).await;
        let orders = supplier.orders().await.unwrap();
        if level == Persist::EveryMessage {
            // The refused change is gone, so nothing is left to wait for.
            assert!(sold.is_err(), "{sold:?}");
        } else {
            assert_eq!(orders, 0, "{level:?}");
        }
        on_commits_of_the_shop(&storage, Fault::None);
        sleep(60 * SECOND).await;
        assert!(supplier.orders().await.unwrap() > 0, "{level:?}: the reminder is lost");
        assert_eq!(shop.sold().await.unwrap(), u64::from(sold.is_ok()), "{level:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_is_killed_before_it_starts_never_starts() {
    for level in LEVELS {
        let storage = FaultyStorage::default();
        let (_runtime, shop, supplier) = open(&storage, level).await;
        on_commits_of_the_shop(&storage, Fault::Slow(4 * SECOND));
        let kill = async {
            sleep(SECOND).await;
            shop.kill().await
        };
        let (_, restocked, killed) = join!(shop.sell(), shop.restock(), kill);
        killed.unwrap();
        assert!(matches!(restocked, Err(CallError::Killed { .. })), "{level:?}: {restocked:?}");
        assert_eq!(supplier.orders().await.unwrap(), 0, "{level:?}");
        // The commit has begun, so it takes effect.
        assert_eq!(shop.sold().await.unwrap(), 1, "{level:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_deadline_of_a_shutdown_ends_the_wait_and_loses_no_acknowledged_change() {
    for level in [Persist::Every(60 * SECOND), Persist::OnStop] {
        let storage = FaultyStorage::default();
        let (runtime, shop, _) = open(&storage, level).await;
        shop.sell().await.unwrap();
        on_commits_of_the_shop(&storage, Fault::Slow(SECOND + SECOND / 2));
        let (restocked, ended) = join!(shop.restock(), runtime.shutdown(SECOND));
        assert!(matches!(restocked, Err(CallError::Killed { .. })), "{level:?}: {restocked:?}");
        assert_eq!(ended.unwrap_err().unsaved_count, 0, "{level:?}");
        assert_eq!(stored(&storage), Some(1), "{level:?}");
        assert!(storage.states.get(&ServerId::new("Supplier", "a")).is_none(), "{level:?}");
    }
}
