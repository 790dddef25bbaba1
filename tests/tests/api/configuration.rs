//! The sources of options, and their precedence.

use std::time::Duration;

use persistent_runtime::{
    Builder, CallError, Client, Config, OpenError, Options, OptionsError, Runtime, Server,
    persistent_server,
};
use persistent_tests::Counter;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

const SECOND: Duration = Duration::from_secs(1);

/// A server type that sets no options.
#[derive(Default, Serialize, Deserialize)]
struct Plain;

#[persistent_server]
impl Plain {}

#[derive(Default, Serialize, Deserialize)]
struct Hasty {
    wakes: u64,
}

#[persistent_server(name = "shop/hasty-1", idle_timeout = "50s")]
impl Hasty {
    pub fn wake(&mut self) {
        self.wakes += 1;
    }
}

fn variables(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn config(json: &str) -> Config {
    serde_json::from_str(json).unwrap()
}

fn idle(seconds: u32) -> Options {
    Options::new().idle_timeout(seconds * SECOND)
}

/// Returns the number of seconds for which the server that `start` activates stays in
/// memory.
async fn stay<S: Server>(runtime: &Runtime, start: impl AsyncFnOnce()) -> u64 {
    start().await;
    let begin = Instant::now();
    while runtime.count::<S>().await.unwrap().live > 0 {
        assert!(begin.elapsed() < 1000 * SECOND, "is never unloaded");
        tokio::time::sleep(SECOND / 10).await;
    }
    begin.elapsed().as_secs()
}

/// Returns the number of seconds for which a `Plain` and a `Hasty` stay in memory.
async fn stays(builder: Builder) -> (u64, u64) {
    let runtime = builder.in_memory().await.unwrap();
    let plain = stay::<Plain>(&runtime, async || {
        runtime.start::<Plain>("a", ()).await.unwrap();
    });
    let hasty = stay::<Hasty>(&runtime, async || {
        runtime.start::<Hasty>("a", ()).await.unwrap();
    });
    tokio::join!(plain, hasty)
}

/// Returns the layer that the error of a refused runtime names, and the full message.
async fn refusal(builder: Builder) -> (String, String) {
    let error = builder.in_memory().await.unwrap_err();
    let text = error.to_string();
    let OpenError::Options(OptionsError { layer, .. }) = error else { panic!("{error:?}") };
    assert!(text.contains(&layer), "{text}");
    (layer, text)
}

#[tokio::test(start_paused = true)]
async fn each_layer_overrides_those_below() {
    let builder = Runtime::builder;
    assert_eq!(stays(builder()).await, (60, 50), "library < attribute");

    let builder = || Runtime::builder().defaults(idle(40));
    assert_eq!(stays(builder()).await, (40, 40), "attribute < defaults");

    let builder = || builder().configure::<Hasty>(idle(30));
    assert_eq!(stays(builder()).await, (40, 30), "defaults < one server");

    let all = ("APP_IDLE_TIMEOUT", "20s");
    let builder = || builder().variables("APP", variables(&[all]));
    assert_eq!(stays(builder()).await, (20, 20), "one server < environment");

    let one = ("APP__SHOP_HASTY_1__IDLE_TIMEOUT", "10s");
    let builder = || builder().variables("APP", variables(&[one, all]));
    assert_eq!(stays(builder()).await, (20, 10), "environment < one server's variable");

    let runtime = builder().in_memory().await.unwrap();
    let hasty = runtime.at::<Hasty>("a", ()).with_options(idle(5)).unwrap();
    let stay = stay::<Hasty>(&runtime, async || hasty.wake().await.unwrap());
    assert_eq!(stay.await, 5, "environment < explicit");
}

#[tokio::test(start_paused = true)]
async fn a_configuration_sets_defaults_and_single_servers() {
    let read = r#"{
        "defaults": { "idle_timeout": "40s" },
        "servers": { "shop/hasty-1": { "idle_timeout": "1m 30s" }, "NoSuchType": { "mailbox": 1 } }
    }"#;
    assert_eq!(stays(Runtime::builder().config(config(read))).await, (40, 90));
    assert_eq!(stays(Runtime::builder().config(Config::default())).await, (60, 50));
}

#[tokio::test(start_paused = true)]
async fn of_two_settings_in_one_layer_the_later_wins_per_option() {
    let read = || config(r#"{ "defaults": { "idle_timeout": "40s" } }"#);
    assert_eq!(stays(Runtime::builder().config(read()).defaults(idle(30))).await, (30, 30));
    assert_eq!(stays(Runtime::builder().defaults(idle(30)).config(read())).await, (40, 40));
    let others = Options::new().mailbox(1);
    assert_eq!(stays(Runtime::builder().config(read()).defaults(others.clone())).await, (40, 40));
    assert_eq!(
        stays(Runtime::builder().config(read()).configure::<Hasty>(others)).await,
        (40, 40),
        "defaults apply to the options that a server does not set"
    );
}

#[tokio::test(start_paused = true)]
async fn durations_have_a_human_readable_form() {
    let runtime = Runtime::builder()
        .config(config(r#"{ "defaults": { "call_timeout": "500ms", "idle_timeout": "never" } }"#))
        .in_memory()
        .await
        .unwrap();
    let server = runtime.at::<Counter>("a", ());
    let Err(CallError::Timeout { after, .. }) = server.increment_after(SECOND).await else {
        panic!("no timeout");
    };
    assert_eq!(after, SECOND / 2);
    tokio::time::sleep(1_000_000 * SECOND).await;
    assert_eq!(runtime.count::<Counter>().await.unwrap().live, 1);
}

#[tokio::test(start_paused = true)]
async fn two_runtimes_in_one_process_have_separate_settings() {
    let ten = variables(&[("APP_IDLE_TIMEOUT", "10s")]);
    let (first, second, third) = tokio::join!(
        stays(Runtime::builder().config(config(r#"{ "defaults": { "idle_timeout": "7s" } }"#))),
        stays(Runtime::builder().variables("APP", ten)),
        stays(Runtime::builder()),
    );
    assert_eq!([first, second, third], [(7, 7), (10, 10), (60, 50)]);
}

#[test]
fn an_unknown_key_is_refused_with_its_name() {
    for (json, path) in [
        (r#"{ "default": {} }"#, "default"),
        (r#"{ "defaults": { "idle_timout": "1s" } }"#, "defaults.idle_timout"),
        (r#"{ "servers": { "A": { "name": "B" } } }"#, "servers.A.name"),
        (r#"{ "servers": { "A": { "backoff": { "mix": "1s" } } } }"#, "servers.A.backoff.mix"),
    ] {
        let error = serde_json::from_str::<Config>(json).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{path}: unknown field")), "{error}");
    }
}

#[test]
fn a_value_of_a_wrong_type_is_refused_with_its_key() {
    for (json, path, wrong) in [
        (r#"{ "defaults": 5 }"#, "defaults", "integer `5`"),
        (r#"{ "defaults": { "mailbox": "big" } }"#, "defaults.mailbox", r#""big""#),
        (r#"{ "servers": { "A": { "idle_timeout": 5 } } }"#, "servers.A.idle_timeout", "`5`"),
        (r#"{ "servers": { "A": { "restart": "no" } } }"#, "servers.A.restart", "`no`"),
    ] {
        let error = serde_json::from_str::<Config>(json).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{path}: ")) && error.contains(wrong), "{error}");
    }
}

#[test]
fn a_configuration_round_trips_through_serde() {
    let written = r#"{"defaults":{"persist":"on_stop"},"servers":{"A":{"mailbox":3}}}"#;
    assert_eq!(serde_json::to_string(&config(written)).unwrap(), written);
}

#[tokio::test]
async fn invalid_options_are_refused_with_the_name_of_their_layer() {
    let none = || Options::new().mailbox(0);
    let (layer, _) = refusal(Runtime::builder().defaults(none())).await;
    assert_eq!(layer, "defaults");
    let (layer, _) = refusal(Runtime::builder().configure::<Hasty>(none())).await;
    assert_eq!(layer, "servers.shop/hasty-1");
    let read = config(r#"{ "servers": { "A": { "persist": { "every": "0s" } } } }"#);
    let (layer, text) = refusal(Runtime::builder().config(read)).await;
    assert_eq!(layer, "servers.A");
    assert!(text.contains("`persist`"), "{text}");

    let runtime = Runtime::in_memory().await.unwrap();
    let error = runtime.at::<Plain>("a", ()).with_options(none()).unwrap_err().to_string();
    assert!(error.contains("Plain") && error.contains("mailbox"), "{error}");
}

#[tokio::test]
async fn a_refused_configuration_leaves_no_database_behind() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("new.db");
    Runtime::builder().defaults(Options::new().mailbox(0)).open(&path).await.unwrap_err();
    assert!(!path.exists());
}

#[tokio::test(start_paused = true)]
async fn a_variable_sets_each_option() {
    let list = variables(&[
        ("APP_RESTART", "temporary"),
        ("APP_IDLE_TIMEOUT", "never"),
        ("APP_MAILBOX", "64"),
        ("APP_CALL_TIMEOUT", "1m 30s"),
        ("APP_PERSIST", "every=500ms"),
        ("APP__COUNTER__PERSIST", "on_stop"),
        ("APP__COUNTER__MAX_RESTARTS", "count=0, within=5s"),
        ("APP__COUNTER__BACKOFF", "min=100ms,max=10s,factor=2,jitter=0.5"),
        ("APPLE_PIE", "of another program"),
        ("APP", "of another program"),
    ]);
    let runtime = Runtime::builder().variables("APP", list).in_memory().await.unwrap();
    let server = runtime.at::<Counter>("a", ());
    let wait = 100 * SECOND;
    let Err(CallError::Timeout { after, .. }) = server.increment_after(wait).await else {
        panic!("no timeout");
    };
    assert_eq!(after, 90 * SECOND);
    tokio::time::sleep(wait).await;
    server.crash("one separator too many".into()).await.unwrap_err();
    let error = server.value().await.unwrap_err();
    assert!(matches!(error, CallError::RestartLimit { .. }), "{error}");
}

#[tokio::test]
async fn an_invalid_environment_variable_is_refused_with_its_name() {
    for (variable, value, word) in [
        ("APP_IDLE_TIMOUT", "1s", "unknown field"),
        ("APP_", "1s", "unknown field"),
        ("APP__IDLE_TIMEOUT", "1s", "unknown field"),
        ("APP__PLAIN__NAME", "x", "unknown field"),
        ("APP_idle_timeout", "1s", "capitals"),
        ("APP__Plain__IDLE_TIMEOUT", "1s", "capitals"),
        ("APP_IDLE_TIMEOUT", "", "a duration"),
        ("APP_IDLE_TIMEOUT", "60", "a duration"),
        ("APP_MAILBOX", "many", "many"),
        ("APP_MAILBOX", "0", "between 1 and "),
        ("APP_RESTART", "always", "`permanent`"),
        ("APP_PERSIST", "every", "newtype"),
        ("APP_PERSIST", "often=1s", "`every`"),
        ("APP_PERSIST", "every=0s", "longer than zero"),
        ("APP_MAX_RESTARTS", "3", "key=value"),
        ("APP_MAX_RESTARTS", "count=3", "`within`"),
        ("APP_BACKOFF", "min=1s,jitter=2", "`jitter` from 0 to 1"),
        ("APP_BACKOFF", "min=1s,factor=x", "backoff.factor"),
        ("APP_BACKOFF", "min=1s,speed=2", "`speed`"),
    ] {
        let builder = Runtime::builder().variables("APP", variables(&[(variable, value)]));
        let (layer, text) = refusal(builder).await;
        assert_eq!(layer, variable);
        assert!(text.contains(word), "{text}");
    }
}

/// Cargo runs tests with variables such as `CARGO_MANIFEST_DIR`.
#[tokio::test]
async fn the_environment_is_read_from_the_process() {
    let (layer, _) = refusal(Runtime::builder().environment("CARGO")).await;
    assert!(layer.starts_with("CARGO_"), "{layer}");
    Runtime::builder().environment("AN_UNUSED_PREFIX").in_memory().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn jitter_shortens_a_backoff_delay_and_never_lengthens_it() {
    let runtime = Runtime::builder()
        .config(config(
            r#"{ "defaults": { "backoff": { "min": "1s", "max": "1s", "jitter": 0.5 } } }"#,
        ))
        .in_memory()
        .await
        .unwrap();
    let mut delays = Vec::new();
    for key in 0..20 {
        let server = runtime.at::<Counter>(key.to_string(), ());
        server.crash("now".into()).await.unwrap_err();
        let begin = Instant::now();
        server.value().await.unwrap();
        delays.push(begin.elapsed());
    }
    // Paused time advances in steps of 1 ms.
    let range = SECOND / 2..=SECOND + SECOND / 500;
    assert!(delays.iter().all(|delay| range.contains(delay)), "{delays:?}");
    assert!(delays.iter().any(|delay| *delay != delays[0]), "{delays:?}");
}
