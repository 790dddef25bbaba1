//! The serialized forms of field types that serde itself has none for.

/// An `Arc` as its content.
pub(crate) mod shared {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(crate) fn serialize<T: Serialize + ?Sized, S: Serializer>(
        value: &Arc<T>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        (**value).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, T: ?Sized, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Arc<T>, D::Error>
    where
        Box<T>: Deserialize<'de>,
    {
        Box::deserialize(deserializer).map(Arc::from)
    }
}

/// An error as its text.
pub(crate) mod text {
    use std::error::Error;

    use serde::{Deserialize, Deserializer, Serializer};

    type AnyError = Box<dyn Error + Send + Sync>;

    pub(crate) fn serialize<S: Serializer>(
        error: &AnyError,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(error)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<AnyError, D::Error> {
        String::deserialize(deserializer).map(AnyError::from)
    }
}
