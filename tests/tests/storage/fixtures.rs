//! Databases written by earlier versions, in `fixtures/`. This version reads all of them. A
//! release adds its own with
//!
//! ```sh
//! cargo test -p persistent-tests --test storage -- --ignored
//! ```

use std::{
    collections::BTreeMap,
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use persistent_runtime::{
    Address, Agent, AgentState, CallError, Client, Context, Runtime, persistent_server,
};
use persistent_tests::{Counter, Twins};
use rusqlite::Connection;
use serde::{Deserialize, Serialize};

/// A state with every shape that serde knows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(clippy::option_option, reason = "a form of its own")]
struct Shapes {
    numbers: (u8, u64, i64, i128, f32, f64),
    texts: (char, String, String),
    bytes: Vec<u8>,
    options: [Option<Box<Shape>>; 2],
    variants: Vec<Shape>,
    by_name: BTreeMap<String, (Unit, u8)>,
    by_number: BTreeMap<i32, bool>,
    times: (Duration, SystemTime),
    nils: (Option<Option<u8>>, Option<Unit>),
    ip: IpAddr,
    address: Address<Counter>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Shape {
    Unit,
    Newtype(String),
    Tuple(u8, u8),
    Struct { inner: Option<Box<Shape>> },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Unit;

impl Default for Shapes {
    fn default() -> Self {
        let inner = Some(Box::new(Shape::Tuple(1, 255)));
        Self {
            numbers: (200, u64::MAX, i64::MIN, -1, 0.1, f64::MAX),
            texts: ('ß', String::new(), "ünï\0cödé 🦀".to_owned()),
            bytes: (0..=255).cycle().take(9000).collect(),
            options: [None, Some(Box::new(Shape::Unit))],
            variants: vec![
                Shape::Unit,
                Shape::Newtype("n".to_owned()),
                Shape::Tuple(0, 128),
                Shape::Struct { inner },
            ],
            by_name: BTreeMap::from([("unit".to_owned(), (Unit, 1))]),
            by_number: BTreeMap::from([(-1, true), (70_000, false)]),
            times: (Duration::new(1, 2), SystemTime::UNIX_EPOCH + Duration::from_hours(1)),
            nils: (Some(None), Some(Unit)),
            ip: IpAddr::from([192, 0, 2, 1]),
            address: Address::new("an address", ()),
        }
    }
}

#[persistent_server(name = "fixture shapes")]
impl Shapes {
    pub fn is_whole(&self) -> bool {
        *self == Self::default() && self.address.init().is_some()
    }
}

/// A server with a reminder.
#[derive(Default, Serialize, Deserialize)]
struct Alarm {
    heard: String,
}

#[persistent_server(name = "fixture alarm", version = 3, oldest = 3)]
impl Alarm {
    pub fn set(&mut self, context: &Context<Self>) {
        // In the year 2100.
        let due = SystemTime::UNIX_EPOCH + Duration::from_hours(130 * 365 * 24);
        context.remind("wake up", due, AlarmMessage::Ring { words: "good morning".to_owned() });
    }

    #[info]
    fn ring(&mut self, words: String) {
        self.heard = words;
    }

    pub fn heard(&self) -> String {
        self.heard.clone()
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Note(String);

impl AgentState for Note {
    const NAME: &'static str = "fixture note";
}

/// A server whose state follows only from its journaled messages and their recorded inputs.
#[derive(Default, Serialize, Deserialize)]
struct Dice {
    rolls: Vec<(SystemTime, u64)>,
}

#[persistent_server(name = "fixture dice", journal = messages)]
impl Dice {
    pub fn roll(&mut self, context: &Context<Self>) {
        self.rolls.push((context.now(), context.random()));
    }

    pub fn rolls(&self) -> Vec<(SystemTime, u64)> {
        self.rolls.clone()
    }
}

/// The same rolls in a state.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Rolls(Vec<(SystemTime, u64)>);

impl AgentState for Rolls {
    const NAME: &'static str = "fixture rolls";
}

const KEYS: [&str; 3] = ["", "ünï\0cödé 🦀", "plain"];
/// Closed; killed before the last run was flushed; killed after everything was flushed.
const ENDS: [&str; 3] = ["ended", "killed", "flushed"];
const YEAR: Duration = Duration::from_hours(24 * 365);

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

/// Writes the first half of the content.
async fn begin(runtime: &Runtime) -> Result<(), CallError> {
    runtime.at::<Shapes>("shapes", ()).is_whole().await?;
    let note = runtime.at::<Agent<Note>>("note", Note("first".to_owned()));
    note.set(Note("second".to_owned())).await?;
    for key in KEYS {
        runtime.at::<Counter>(key, ()).increment().await?;
        runtime.at::<Twins>(key, ()).grow().await?;
    }
    runtime.at::<Counter>("deleted", ()).increment().await?;
    for _ in 0..3 {
        runtime.at::<Dice>("dice", ()).roll().await?;
    }
    Ok(())
}

/// Writes the second half, after a restart.
async fn go_on(runtime: &Runtime) -> Result<(), CallError> {
    runtime.at::<Alarm>("alarm", ()).set().await?;
    let note = runtime.find::<Agent<Note>>("note").await?;
    note.set(Note("last".to_owned())).await?;
    for key in KEYS {
        for _ in 0..2 {
            runtime.find::<Counter>(key).await?.increment().await?;
            runtime.find::<Twins>(key).await?.grow().await?;
        }
    }
    runtime.find::<Counter>("deleted").await?.delete().await?;
    let dice = runtime.find::<Dice>("dice").await?;
    for _ in 0..2 {
        dice.roll().await?;
    }
    let rolls = Rolls(dice.rolls().await?);
    runtime.start::<Agent<Rolls>>("rolls", rolls).await?;
    Ok(())
}

async fn read(runtime: &Runtime) -> Result<(), CallError> {
    assert!(runtime.find::<Shapes>("shapes").await?.is_whole().await?);
    assert_eq!(runtime.find::<Agent<Note>>("note").await?.get().await?, Note("last".to_owned()));
    for key in KEYS {
        let counter = runtime.find::<Counter>(key).await?;
        assert_eq!((counter.value().await?, counter.increment().await?), (3, 4), "{key:?}");
        assert_eq!(runtime.find::<Twins>(key).await?.both().await?, (3, 3), "{key:?}");
    }
    let deleted = runtime.find::<Counter>("deleted").await;
    assert!(matches!(deleted, Err(CallError::NotFound { .. })), "{deleted:?}");
    assert_eq!(runtime.count::<Counter>().await.unwrap().stored, 3);

    let dice = runtime.find::<Dice>("dice").await?;
    let Rolls(rolls) = runtime.find::<Agent<Rolls>>("rolls").await?.get().await?;
    assert_eq!((rolls.len(), &dice.rolls().await?[..5]), (5, &rolls[..]));
    dice.roll().await?;

    let alarm = runtime.find::<Alarm>("alarm").await?;
    assert_eq!(alarm.heard().await?, "");
    Ok(())
}

#[tokio::test]
async fn a_database_of_every_release_is_read() {
    let mut releases = Vec::new();
    for release in fs::read_dir(root()).expect("there are fixtures") {
        let release = release.unwrap().path();
        for how in ENDS {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("copy.db");
            fs::copy(release.join(format!("{how}.sqlite")), &path).unwrap();
            let log = release.join(format!("{how}.sqlite-wal"));
            if log.exists() {
                fs::copy(log, folder.path().join("copy.db-wal")).unwrap();
            }
            for _run in 0..2 {
                let runtime = Runtime::open(&path).await.unwrap();
                if let Err(error) = read(&runtime).await {
                    panic!("{} {how}: {error}", release.display());
                }
                for key in KEYS {
                    let counter = runtime.at::<Counter>(key, ());
                    counter.delete().await.unwrap();
                    for _ in 0..3 {
                        counter.increment().await.unwrap();
                    }
                }
                runtime.shutdown(Duration::from_secs(30)).await.unwrap();
            }
            assert!(rings(&path).await, "{} {how}", release.display());
        }
        releases.push(release.file_name().unwrap().to_owned());
    }
    let this = env!("CARGO_PKG_VERSION");
    assert!(releases.iter().any(|release| release == this), "the fixture of {this} is missing");
}

/// Returns true if the reminder fires when it is due.
async fn rings(path: &Path) -> bool {
    let runtime = Runtime::builder().register::<Alarm>().open(path).await.unwrap();
    tokio::time::pause();
    for _ in 0..100 {
        tokio::time::sleep(YEAR).await;
    }
    tokio::time::resume();
    let heard = runtime.at::<Alarm>("alarm", ()).heard().await.unwrap();
    runtime.shutdown(Duration::from_secs(30)).await.unwrap();
    heard == "good morning"
}

#[tokio::test]
#[ignore = "writes the fixture of this release"]
async fn write_the_fixture() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fixture.db");
    let release = root().join(env!("CARGO_PKG_VERSION"));
    let _ = fs::remove_dir_all(&release);
    fs::create_dir_all(&release).unwrap();
    let copy = |how: &str| {
        for log in ["", "-wal"] {
            let from = folder.path().join(format!("fixture.db{log}"));
            if from.exists() {
                fs::copy(from, release.join(format!("{how}.sqlite{log}"))).unwrap();
            }
        }
    };
    let rows = |table: &str| -> u32 {
        let sql = format!("SELECT count(*) FROM {table}");
        Connection::open(&path).unwrap().query_row(&sql, [], |row| row.get(0)).unwrap()
    };

    let runtime = Runtime::open(&path).await.unwrap();
    begin(&runtime).await.unwrap();
    runtime.shutdown(Duration::from_secs(30)).await.unwrap();
    let runtime = Runtime::open(&path).await.unwrap();
    go_on(&runtime).await.unwrap();
    copy("killed");
    assert_eq!((rows("commit_log") > 3, rows("messages")), (true, 0));
    while rows("commit_log") > 0 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    copy("flushed");
    assert_eq!(rows("messages"), 2);
    runtime.shutdown(Duration::from_secs(30)).await.unwrap();
    copy("ended");
    assert_eq!((rows("commit_log"), rows("messages")), (0, 0));
}
