//! Storages that pass calls on to another storage.

use std::{ops::Bound, path::Path, sync::Arc};

use super::{Commit, Completion, Record, Storage, StorageFuture, StorageObserver};
use crate::id::ServerId;

/// Implements the methods of a [`Storage`] that a decorator does not change.
///
/// Use it inside the `impl Storage` block: name the field that holds the inner storage, and the
/// methods that the block itself implements.
///
/// [`Storage::submit`] is never forwarded: its default drives the decorator's own
/// [`commit`](Storage::commit), so no commit bypasses the decorator. Implement `submit` as well if
/// the inner storage is in an [`Arc`] and has a `submit` of its own that matters.
///
/// ```
/// # use persistent_runtime::{forward_storage, Commit, MemoryStorage, Storage, StorageFuture};
/// # use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
/// struct Counting {
///     inner: MemoryStorage,
///     commits: AtomicU64,
/// }
///
/// impl Storage for Counting {
///     fn commit(&self, commit: Commit) -> StorageFuture<'_, ()> {
///         self.commits.fetch_add(1, Relaxed);
///         self.inner.commit(commit)
///     }
///
///     forward_storage!(self.inner, except commit);
/// }
/// ```
#[macro_export]
macro_rules! forward_storage {
    ($self:ident.$field:tt $(, except $($changed:ident),+)? $(,)?) => {
        $crate::forward_storage!(@load [$($($changed)+)?] $self $field [$($($changed)+)?]);
    };
    // One step per method: skips the method if the list names it, else implements it.
    (@load [load $($rest:ident)*] $self:ident $field:tt $all:tt) => {
        $crate::forward_storage!(@commit $all $self $field $all);
    };
    (@commit [commit $($rest:ident)*] $self:ident $field:tt $all:tt) => {
        $crate::forward_storage!(@kinds $all $self $field $all);
    };
    (@kinds [kinds $($rest:ident)*] $self:ident $field:tt $all:tt) => {
        $crate::forward_storage!(@keys $all $self $field $all);
    };
    (@keys [keys $($rest:ident)*] $self:ident $field:tt $all:tt) => {
        $crate::forward_storage!(@due $all $self $field $all);
    };
    (@due [due $($rest:ident)*] $self:ident $field:tt $all:tt) => {
        $crate::forward_storage!(@count $all $self $field $all);
    };
    (@count [count $($rest:ident)*] $self:ident $field:tt $all:tt) => {
        $crate::forward_storage!(@close $all $self $field $all);
    };
    (@close [close $($rest:ident)*] $self:ident $field:tt $all:tt) => {
        $crate::forward_storage!(@backup $all $self $field $all);
    };
    (@backup [backup $($rest:ident)*] $self:ident $field:tt $all:tt) => {
        $crate::forward_storage!(@observe $all $self $field $all);
    };
    (@observe [observe $($rest:ident)*] $self:ident $field:tt $all:tt) => {};
    (@$method:ident [$other:ident $($rest:ident)*] $self:ident $field:tt $all:tt) => {
        $crate::forward_storage!(@$method [$($rest)*] $self $field $all);
    };
    (@load [] $self:ident $field:tt $all:tt) => {
        fn load<'a>(
            &'a $self,
            server: &'a $crate::ServerId,
        ) -> $crate::StorageFuture<'a, ::core::option::Option<$crate::Record>> {
            $crate::Storage::load(&$self.$field, server)
        }
        $crate::forward_storage!(@commit $all $self $field $all);
    };
    (@commit [] $self:ident $field:tt $all:tt) => {
        fn commit(&$self, commit: $crate::Commit) -> $crate::StorageFuture<'_, ()> {
            $crate::Storage::commit(&$self.$field, commit)
        }
        $crate::forward_storage!(@kinds $all $self $field $all);
    };
    (@kinds [] $self:ident $field:tt $all:tt) => {
        fn kinds<'a>(
            &'a $self,
            after: ::core::option::Option<&'a ::core::primitive::str>,
            limit: ::core::primitive::usize,
        ) -> $crate::StorageFuture<
            'a,
            ::std::vec::Vec<::std::sync::Arc<::core::primitive::str>>,
        > {
            $crate::Storage::kinds(&$self.$field, after, limit)
        }
        $crate::forward_storage!(@keys $all $self $field $all);
    };
    (@keys [] $self:ident $field:tt $all:tt) => {
        fn keys<'a>(
            &'a $self,
            kind: &'a ::core::primitive::str,
            from: ::core::ops::Bound<&'a ::core::primitive::str>,
            limit: ::core::primitive::usize,
        ) -> $crate::StorageFuture<
            'a,
            ::std::vec::Vec<::std::sync::Arc<::core::primitive::str>>,
        > {
            $crate::Storage::keys(&$self.$field, kind, from, limit)
        }
        $crate::forward_storage!(@due $all $self $field $all);
    };
    (@due [] $self:ident $field:tt $all:tt) => {
        fn due<'a>(
            &'a $self,
            kind: &'a ::core::primitive::str,
            after: ::core::option::Option<(
                ::core::primitive::u64,
                &'a ::core::primitive::str,
            )>,
            limit: ::core::primitive::usize,
        ) -> $crate::StorageFuture<
            'a,
            ::std::vec::Vec<(
                ::core::primitive::u64,
                ::std::sync::Arc<::core::primitive::str>,
            )>,
        > {
            $crate::Storage::due(&$self.$field, kind, after, limit)
        }
        $crate::forward_storage!(@count $all $self $field $all);
    };
    (@count [] $self:ident $field:tt $all:tt) => {
        fn count<'a>(
            &'a $self,
            kind: &'a ::core::primitive::str,
        ) -> $crate::StorageFuture<'a, ::core::primitive::u64> {
            $crate::Storage::count(&$self.$field, kind)
        }
        $crate::forward_storage!(@close $all $self $field $all);
    };
    (@close [] $self:ident $field:tt $all:tt) => {
        fn close(&$self) -> $crate::StorageFuture<'_, ()> {
            $crate::Storage::close(&$self.$field)
        }
        $crate::forward_storage!(@backup $all $self $field $all);
    };
    (@backup [] $self:ident $field:tt $all:tt) => {
        fn backup<'a>(&'a $self, path: &'a ::std::path::Path) -> $crate::StorageFuture<'a, ()> {
            $crate::Storage::backup(&$self.$field, path)
        }
        $crate::forward_storage!(@observe $all $self $field $all);
    };
    (@observe [] $self:ident $field:tt $all:tt) => {
        fn observe(&$self, observer: $crate::StorageObserver) {
            $crate::Storage::observe(&$self.$field, observer);
        }
    };
}

/// A shared storage, also one behind a trait object: `Arc<dyn Storage>`.
impl<T: Storage + ?Sized> Storage for Arc<T> {
    fn load<'a>(&'a self, server: &'a ServerId) -> StorageFuture<'a, Option<Record>> {
        (**self).load(server)
    }

    fn commit(&self, commit: Commit) -> StorageFuture<'_, ()> {
        (**self).commit(commit)
    }

    fn submit(self: Arc<Self>, commit: Commit, completion: Completion) {
        T::submit(Arc::clone(&*self), commit, completion);
    }

    fn kinds<'a>(
        &'a self,
        after: Option<&'a str>,
        limit: usize,
    ) -> StorageFuture<'a, Vec<Arc<str>>> {
        (**self).kinds(after, limit)
    }

    fn keys<'a>(
        &'a self,
        kind: &'a str,
        from: Bound<&'a str>,
        limit: usize,
    ) -> StorageFuture<'a, Vec<Arc<str>>> {
        (**self).keys(kind, from, limit)
    }

    fn due<'a>(
        &'a self,
        kind: &'a str,
        after: Option<(u64, &'a str)>,
        limit: usize,
    ) -> StorageFuture<'a, Vec<(u64, Arc<str>)>> {
        (**self).due(kind, after, limit)
    }

    fn count<'a>(&'a self, kind: &'a str) -> StorageFuture<'a, u64> {
        (**self).count(kind)
    }

    fn backup<'a>(&'a self, path: &'a Path) -> StorageFuture<'a, ()> {
        (**self).backup(path)
    }

    fn observe(&self, observer: StorageObserver) {
        (**self).observe(observer);
    }

    fn close(&self) -> StorageFuture<'_, ()> {
        (**self).close()
    }
}
