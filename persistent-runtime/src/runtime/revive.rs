//! Revival of permanent servers when a runtime opens.

use std::{ops::Bound, sync::Arc, time::Duration};

use crate::{
    api::{server::Server, typed::registry},
    config::options::Restart,
    engine::{
        command::{CallOptions, Command},
        handle::HandleCore,
        registry::Registry,
        services::{Services, ShutdownGuard},
    },
    support::{
        catch::await_catching,
        sync::{task::JoinSet, time},
    },
};

/// The number of keys per read, and of servers that are activated at the same time.
const PAGE: usize = 64;
/// The delay before a failed storage is read again.
const RETRY: Duration = Duration::from_secs(5);

/// Activates every stored server of a type, if its restart policy is permanent.
pub(crate) fn revive<S: Server>(services: &Arc<Services>) {
    let registry = registry::<S>(services);
    if registry.settings().restart == Restart::Permanent {
        services.spawn(revive_all(registry, ShutdownGuard::new(services.clone())));
    }
}

async fn revive_all(registry: Arc<Registry>, _guard: ShutdownGuard) {
    let mut from: Bound<Arc<str>> = Bound::Unbounded;
    loop {
        let storage = registry.services().storage();
        let page = from.as_ref().map(|key| &**key);
        let keys = async { storage.keys(registry.kind(), page, PAGE).await };
        let services = registry.services();
        let Some(keys) = services.until_stop(await_catching(keys)).await else { return };
        let Ok(Ok(keys)) = keys else {
            services.until_stop(time::sleep(RETRY)).await;
            continue;
        };
        let Some(last) = keys.last() else { return };
        from = Bound::Excluded(last.clone());
        let mut starts = JoinSet::new();
        for key in keys {
            let handle = HandleCore::new(registry.cell(&key), CallOptions::default());
            starts.spawn(async move { handle.command(Command::Start, &mut None::<()>).await });
        }
        starts.join_all().await;
    }
}
