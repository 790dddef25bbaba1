#![deny(unused)]

use persistent_runtime::{Client, Reply, Runtime, persistent_server};
use serde::{Deserialize, Serialize};

#[derive(Default, Serialize, Deserialize)]
struct Odd(u64);

#[persistent_server]
impl Odd {
    pub fn clone(&self) -> u64 {
        self.0
    }

    pub fn stop(&mut self, handle: u64) -> u64 {
        handle
    }

    pub fn handle(&self, message: u64, context: u64, reply: u64) -> u64 {
        message + context + reply
    }

    pub async fn handle_async(&self, message: u64, context: u64, reply: u64) -> u64 {
        message * context * reply
    }

    pub async fn method(&self, method: u64) -> u64 {
        method
    }

    pub fn from_handle(&self) -> u64 {
        self.0
    }

    pub fn new(&self) -> u64 {
        self.0
    }

    pub fn address(&self) -> String {
        "Abbey Road".to_owned()
    }

    pub fn cast(&mut self, client: String) -> String {
        client
    }

    pub fn init(&self, init: u64) -> u64 {
        init
    }

    pub fn encode(&self, buffer: u64) -> u64 {
        buffer
    }

    pub fn options(&self) {}

    pub fn defer(&self, reply: u64, context: u64, later: Reply<u64>) {
        later.send(reply + context);
    }

    #[info]
    fn decode(&self) {}

    pub fn r#type(&mut self, r#fn: u64) -> u64 {
        r#fn
    }

    pub fn self_(&self) {}

    pub fn _1(&self) {}
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let runtime = Runtime::in_memory().await.unwrap();
    let odd = runtime.at::<Odd>("a", ());
    assert_eq!(odd.handle(1, 2, 3).await.unwrap(), 6);
    assert_eq!(odd.handle_async(1, 2, 4).await.unwrap(), 8);
    assert_eq!(odd.method(7).await.unwrap(), 7);
    assert_eq!(odd.defer(1, 2).await.unwrap(), 3);
    assert_eq!(odd.address().await.unwrap(), "Abbey Road");
    assert_eq!(odd.r#type(5).await.unwrap(), 5);
    assert_eq!(Client::address(&odd).key(), "a");
    Client::cast(&odd, OddMessage::Type { r#fn: 1 }).await.unwrap();
    Client::stop(&odd, "tired").await.unwrap();
}
