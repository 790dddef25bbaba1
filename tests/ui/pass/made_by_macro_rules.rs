//! Servers that `macro_rules!` makes, from each kind of fragment.
#![deny(unused)]

use persistent_runtime::{Runtime, persistent_server};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Thing(u8);

mod deps {
    pub(crate) use {persistent_runtime, serde};
}

/// A whole server, whose messages name types through `$crate`.
#[macro_export]
macro_rules! shelf {
    ($name:ident) => {
        #[derive($crate::deps::serde::Serialize, $crate::deps::serde::Deserialize)]
        pub struct $name {
            things: Vec<$crate::Thing>,
        }

        #[$crate::deps::persistent_runtime::persistent_server(
            crate = $crate::deps::persistent_runtime
        )]
        impl $name {
            #[init]
            fn new(thing: $crate::Thing) -> Self {
                Self { things: vec![thing] }
            }

            pub fn put(&mut self, thing: $crate::Thing) -> usize {
                self.things.push(thing);
                self.things.len()
            }

            pub fn all(&self) -> Vec<$crate::Thing> {
                self.things.clone()
            }
        }
    };
}
shelf!(Shelf);

macro_rules! served {
    ($item:item) => {
        #[persistent_server]
        $item
    };
}

#[derive(Default, Serialize, Deserialize)]
struct Counter(u64);

served! {
    impl Counter {
        pub fn add(&mut self, n: u64) -> u64 {
            self.0 += n;
            self.0
        }
    }
}

macro_rules! store {
    (
        $(#[$attribute:meta])*
        $vis:vis $name:ident<$ty:ty> as $stored:literal {
            $($item:item)*
        } {
            $($method_vis:vis fn $method:ident(&mut $me:ident, $argument:ident: $argument_ty:ty)
                -> $result:ty $body:block)*
        }
    ) => {
        $(#[$attribute])*
        #[derive(Default, Serialize, Deserialize)]
        $vis struct $name {
            values: Vec<$ty>,
        }

        #[persistent_server(name = $stored, mailbox = 16)]
        impl $name {
            $($item)*

            $($method_vis fn $method(&mut $me, $argument: $argument_ty) -> $result $body)*

            pub fn all(&self) -> Vec<$ty> {
                self.values.clone()
            }
        }
    };
}

store! {
    /// Words.
    pub(crate) Words<String> as "words" {
        const MOST: usize = 3;
        #[cast]
        pub fn clear(&mut self) {
            self.values.clear();
        }
        #[save]
        fn save(&self) -> Vec<String> {
            self.values.clone()
        }
        #[restore]
        fn restore(values: Vec<String>) -> Self {
            Self { values }
        }
    } {
        pub fn push(&mut self, word: String) -> usize {
            self.values.push(word);
            self.values.len().min(Self::MOST)
        }
        fn helper(&mut self, n: u8) -> u8 { n }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let runtime = Runtime::in_memory().await.unwrap();
    let shelf = runtime.at::<Shelf>("a", Thing(1));
    assert_eq!(shelf.put(Thing(2)).await.unwrap(), 2);
    assert_eq!(shelf.all().await.unwrap(), [Thing(1), Thing(2)]);
    assert_eq!(runtime.at::<Counter>("a", ()).add(2).await.unwrap(), 2);
    let words = runtime.at::<Words>("a", ());
    words.clear().await.unwrap();
    assert_eq!(words.push("x".to_owned()).await.unwrap(), 1);
    assert_eq!(words.all().await.unwrap(), ["x"]);
    assert_eq!(Words::default().helper(1), 1);
}
