//! Generated code allows no lint that the user did not allow, so a crate can forbid them.
#![forbid(deprecated, unused_variables, dead_code, missing_docs, unsafe_code)]

use persistent_runtime::{Runtime, persistent_server};
use serde::{Deserialize, Serialize};

#[derive(Default, Serialize, Deserialize)]
struct Counter(u64);

#[persistent_server]
impl Counter {
    pub fn add(&mut self, n: u64) -> u64 {
        self.0 += n;
        self.0
    }

    #[deprecated = "use `add`"]
    pub fn plus(&mut self, n: u64) -> u64 {
        self.add(n)
    }

    #[cfg_attr(all(), deprecated = "use `add`", must_use)]
    pub fn minus(&mut self, n: u64) -> u64 {
        self.0 -= n;
        self.0
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let runtime = Runtime::in_memory().await.unwrap();
    assert_eq!(runtime.at::<Counter>("a", ()).add(2).await.unwrap(), 2);
}
