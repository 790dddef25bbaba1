//! Values that outlive a panic, but not the activation.

use std::{any::Any, sync::Arc};

use crate::support::catch::drop_catching;

type Resource = Arc<dyn Any + Send + Sync>;

/// The resources of one server, by name and type.
#[derive(Default)]
pub(crate) struct Resources(Vec<(String, Resource)>);

impl Drop for Resources {
    fn drop(&mut self) {
        self.0.drain(..).for_each(drop_catching);
    }
}

impl Resources {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Inserts a value. Returns the replaced value, to be dropped outside of locks.
    pub(crate) fn insert<T: Any + Send + Sync>(
        &mut self,
        name: &str,
        value: Arc<T>,
    ) -> Option<Arc<T>> {
        let replaced = self.remove(name);
        self.0.push((name.to_owned(), value));
        replaced
    }

    pub(crate) fn get<T: Any + Send + Sync>(&self, name: &str) -> Option<Arc<T>> {
        self.0[self.position::<T>(name)?].1.clone().downcast().ok()
    }

    pub(crate) fn remove<T: Any + Send + Sync>(&mut self, name: &str) -> Option<Arc<T>> {
        let position = self.position::<T>(name)?;
        self.0.swap_remove(position).1.downcast().ok()
    }

    fn position<T: Any>(&self, name: &str) -> Option<usize> {
        self.0.iter().position(|(other, value)| other == name && value.is::<T>())
    }
}
