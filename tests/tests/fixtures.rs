//! Databases that released versions have written, in `fixtures/`: this one reads
//! them all. A release adds its own with
//!
//! ```sh
//! cargo test -p persistent-tests --test fixtures -- --ignored
//! ```

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use persistent_runtime::{
    Address, Agent, AgentState, CallError, Client, Context, Runtime, persistent_server,
};
use persistent_tests::{Counter, Twins};
use serde::{Deserialize, Serialize};

/// Every shape that a state can have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Shapes {
    numbers: (u8, u64, i64, i128, f32, f64),
    texts: (char, String, String),
    bytes: Vec<u8>,
    options: [Option<Box<Shape>>; 2],
    variants: Vec<Shape>,
    by_name: BTreeMap<String, (Unit, u8)>,
    by_number: BTreeMap<i32, bool>,
    times: (Duration, SystemTime),
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

/// A durable timer.
#[derive(Default, Serialize, Deserialize)]
struct Alarm {
    heard: String,
}

#[persistent_server(name = "fixture alarm", version = 3)]
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

const YEAR: Duration = Duration::from_hours(24 * 365);

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

async fn write(runtime: &Runtime) -> Result<(), CallError> {
    runtime.at::<Shapes>("shapes", ()).is_whole().await?;
    runtime.at::<Alarm>("alarm", ()).set().await?;
    runtime
        .at::<Agent<Note>>("note", Note("first".to_owned()))
        .set(Note("last".to_owned()))
        .await?;
    for key in ["", "ünï\0cödé 🦀", "plain"] {
        for _ in 0..3 {
            runtime.at::<Counter>(key, ()).increment().await?;
            runtime.at::<Twins>(key, ()).grow().await?;
        }
    }
    runtime.at::<Counter>("wiped", ()).increment().await?;
    runtime.at::<Counter>("wiped", ()).stop_and_wipe().await
}

async fn read(runtime: &Runtime) -> Result<(), CallError> {
    assert!(runtime.find::<Shapes>("shapes").await?.is_whole().await?);
    assert_eq!(runtime.find::<Agent<Note>>("note").await?.get().await?, Note("last".to_owned()));
    for key in ["", "ünï\0cödé 🦀", "plain"] {
        let counter = runtime.find::<Counter>(key).await?;
        assert_eq!((counter.value().await?, counter.increment().await?), (3, 4), "{key:?}");
        assert_eq!(runtime.find::<Twins>(key).await?.both().await?, (3, 3), "{key:?}");
    }
    let wiped = runtime.find::<Counter>("wiped").await;
    assert!(matches!(wiped, Err(CallError::NotFound { .. })), "{wiped:?}");
    assert_eq!(runtime.count::<Counter>().await.unwrap().stored, 3);

    let alarm = runtime.find::<Alarm>("alarm").await?;
    assert_eq!(alarm.heard().await?, "");
    Ok(())
}

#[tokio::test]
async fn a_database_of_every_release_is_read() {
    let mut read_so_far = Vec::new();
    for release in fs::read_dir(root()).expect("there are fixtures") {
        let release = release.unwrap().path();
        for how in ["ended", "killed"] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("copy.db");
            fs::copy(release.join(format!("{how}.sqlite")), &path).unwrap();
            let log = release.join(format!("{how}.sqlite-wal"));
            if log.exists() {
                fs::copy(log, folder.path().join("copy.db-wal")).unwrap();
            }
            for _life in 0..2 {
                let runtime = Runtime::open(&path).await.unwrap();
                if let Err(error) = read(&runtime).await {
                    panic!("{} {how}: {error}", release.display());
                }
                for key in ["", "ünï\0cödé 🦀", "plain"] {
                    let counter = runtime.at::<Counter>(key, ());
                    counter.stop_and_wipe().await.unwrap();
                    for _ in 0..3 {
                        counter.increment().await.unwrap();
                    }
                }
                runtime.shutdown(Duration::from_secs(30)).await.unwrap();
            }
            assert!(rings(&path).await, "{} {how}", release.display());
            read_so_far.push(how);
        }
    }
    assert!(read_so_far.contains(&"ended") && read_so_far.contains(&"killed"), "none was there");
}

/// Whether the alarm is heard in its time.
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

    let runtime = Runtime::open(&path).await.unwrap();
    write(&runtime).await.unwrap();
    fs::copy(&path, release.join("killed.sqlite")).unwrap();
    fs::copy(folder.path().join("fixture.db-wal"), release.join("killed.sqlite-wal")).unwrap();
    runtime.shutdown(Duration::from_secs(30)).await.unwrap();
    fs::copy(&path, release.join("ended.sqlite")).unwrap();
}
