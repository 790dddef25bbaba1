use persistent_runtime::persistent_server;
use serde::{Deserialize, Serialize};

#[derive(Default, Serialize, Deserialize)]
struct Player {
    score: u64,
}

#[derive(Deserialize)]
struct First;

#[derive(Deserialize)]
struct Second;

#[derive(Deserialize)]
struct Third;

#[derive(Deserialize)]
struct FirstMessage;

#[persistent_server(version = 3)]
impl Player {
    #[migrate(from = 2)]
    fn from_second(_old: Second) -> Self {
        Self { score: 0 }
    }
}

mod of_messages {
    use super::*;

    #[derive(Default, Serialize, Deserialize)]
    struct Board;

    #[persistent_server(version = 4, oldest = 2, journal = messages)]
    impl Board {
        #[migrate(from = 1)]
        fn from_first(_old: First) -> Self {
            Self
        }

        #[migrate(from = 2)]
        fn from_second(_old: Second) -> First {
            First
        }

        #[migrate(from = 3)]
        fn from_third(_old: Third) -> Self {
            Self
        }

        #[migrate_message(from = 2)]
        fn message_from_second(_old: FirstMessage) -> Option<BoardMessage> {
            None
        }
    }
}

fn main() {}
