#![deny(unused, missing_debug_implementations)]

use std::{fmt::Debug, marker::PhantomData};

use persistent_runtime::{Runtime, Payload, persistent_server};
use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize)]
#[serde(bound = "")]
struct Stack<T: Payload> {
    items: Vec<T>,
}

impl<T: Payload> Default for Stack<T> {
    fn default() -> Self {
        Self { items: Vec::new() }
    }
}

#[persistent_server(name = "stack")]
impl<T> Stack<T>
where
    T: Payload + Debug,
{
    pub fn push(&mut self, item: T) {
        self.items.push(item);
    }

    pub async fn pop(&mut self) -> Option<T> {
        self.items.pop()
    }

    pub fn swap(&mut self, other: Self) -> Self {
        std::mem::replace(self, other)
    }

    /// The name of a variant that generated code adds.
    pub fn __unused(&self) -> usize {
        self.items.len()
    }
}

/// No message names `T`.
#[derive(Default, Serialize, Deserialize)]
struct Counter<T, const N: usize> {
    count: usize,
    kind: PhantomData<T>,
}

#[persistent_server(name = "counter")]
impl<T: Send + Debug + Default + 'static, const N: usize> Counter<T, N> {
    const STEP: usize = if N > 1 { N } else { 1 };

    pub fn count(&mut self, more: [u8; 2]) -> usize {
        self.count += Self::STEP * more.len();
        self.count
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let runtime = Runtime::in_memory().await.unwrap();
    let stack = runtime.at::<Stack<u8>>("a", ());
    stack.push(7).await.unwrap();
    assert_eq!(stack.swap(Stack { items: vec![1] }).await.unwrap().items, [7]);
    assert_eq!(stack.__unused().await.unwrap(), 1);
    assert_eq!(stack.pop().await.unwrap(), Some(1));
    let counter = runtime.at::<Counter<u8, 3>>("a", ());
    assert_eq!(counter.count([0, 1]).await.unwrap(), 6);
}
