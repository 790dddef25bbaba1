use persistent_runtime::persistent_server;
use serde::{Deserialize, Serialize};

#[derive(Default, Serialize, Deserialize)]
struct Cache<T> {
    value: T,
}

#[persistent_server(name = "cache")]
impl<T> Cache<T> {
    pub fn set(&mut self, value: T) {
        self.value = value;
    }
}

mod unnamed {
    use persistent_runtime::{Payload, persistent_server};

    #[persistent_server]
    impl<T: Payload> super::Cache<T> {
        pub fn get(&mut self) -> T {
            todo!()
        }
    }

    struct Row<const N: usize>;

    #[persistent_server]
    impl<const N: usize> Row<N> {}
}

struct View<'a>(&'a str);

#[persistent_server]
impl View<'_> {
    pub fn text(&self) -> String {
        self.0.to_owned()
    }
}

fn main() {}
