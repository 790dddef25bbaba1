#![deny(unused)]

use persistent_runtime::{Client, Runtime, persistent_server};
use serde::{Deserialize, Serialize};

mod inner {
    #[derive(Default, serde::Serialize, serde::Deserialize)]
    pub struct Empty;
}

#[persistent_server]
impl inner::Empty {}

#[derive(Serialize, Deserialize)]
struct Named(String);

#[persistent_server]
impl Named {
    #[init]
    pub fn new(name: String) -> Self {
        Self(name)
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let runtime = Runtime::in_memory().await.unwrap();
    let empty = runtime.start::<inner::Empty>("a", ()).await.unwrap();
    let _: EmptyClient = empty.clone();
    empty.delete().await.unwrap();
    let named = runtime.start::<Named>("a", "Ada".to_owned()).await.unwrap();
    assert_eq!(format!("{:?}", named.address().init()), "Some(\"Ada\")");
}
