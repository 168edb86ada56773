//! Where a scrape finds figures that others keep, once it is known where to ask.
use std::fmt;
use std::sync::OnceLock;

use super::{LimitUse, ListenerUse, Metrics};
use crate::telemetry::view::StoreView;

type Figures<T> = Box<dyn Fn() -> T + Send + Sync>;

pub(super) struct Watched<T>(OnceLock<Figures<T>>);

impl<T> Watched<T> {
    /// What is asked outlives every policy: there is one.
    pub(super) fn set(&self, figures: Figures<T>) {
        let _ = self.0.set(figures);
    }

    pub(super) fn read(&self) -> Option<T> {
        self.0.get().map(|figures| figures())
    }
}

impl<T> Default for Watched<T> {
    fn default() -> Self {
        Self(OnceLock::new())
    }
}

impl<T> fmt::Debug for Watched<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watched(…)")
    }
}

impl Metrics {
    /// Where a scrape finds how the store is. Only the first is asked.
    pub fn watch_store(&self, figures: impl Fn() -> StoreView + Send + Sync + 'static) {
        self.shared.store.set(Box::new(figures));
    }

    /// Where a scrape finds how the listeners are. Only the first is asked.
    pub fn watch_listeners(&self, all: impl Fn() -> Vec<ListenerUse> + Send + Sync + 'static) {
        self.shared.listeners.set(Box::new(all));
    }

    /// Where a scrape finds how full the limits are. Only the first is asked.
    pub fn watch_limits(&self, fullest: impl Fn() -> Vec<LimitUse> + Send + Sync + 'static) {
        self.shared.fullest.set(Box::new(fullest));
    }
}
