//! Values that outlive a panic, but not the server's time in memory.

use std::{any::Any, sync::Arc};

type Value = Arc<dyn Any + Send + Sync>;

/// See the [module](self). A server keeps few values, most keep none.
#[derive(Default)]
pub(crate) struct Kept(Vec<(String, Value)>);

impl Kept {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the value that was replaced: to be dropped outside of locks.
    pub(crate) fn put<T: Any + Send + Sync>(
        &mut self,
        name: &str,
        value: Arc<T>,
    ) -> Option<Arc<T>> {
        let replaced = self.take(name);
        self.0.push((name.to_owned(), value));
        replaced
    }

    pub(crate) fn get<T: Any + Send + Sync>(&self, name: &str) -> Option<Arc<T>> {
        self.0[self.position::<T>(name)?].1.clone().downcast().ok()
    }

    pub(crate) fn take<T: Any + Send + Sync>(&mut self, name: &str) -> Option<Arc<T>> {
        let position = self.position::<T>(name)?;
        self.0.swap_remove(position).1.downcast().ok()
    }

    /// Values of one name and several types live side by side.
    fn position<T: Any>(&self, name: &str) -> Option<usize> {
        self.0.iter().position(|(other, value)| other == name && value.is::<T>())
    }
}
