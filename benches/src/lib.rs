//! Comparisons with other caches.
