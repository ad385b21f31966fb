//! Layers of images that run: held in the store, so that its collection leaves them.

use std::path::Path;

use kiln_store::Held;

use super::pod::chain;
use crate::desired::Desired;

/// The layers of everything that one deploy may start.
pub(super) type Layers = Vec<Held>;

/// Holds all layers of a store that are named, and says what is wrong with the others. A pod
/// whose layers are gone says so when it starts.
pub(super) fn hold(desired: &Desired) -> (Layers, Vec<String>) {
    let Some(store) = &desired.store else {
        return (Layers::new(), Vec::new());
    };
    let (mut held, mut remarks) = (Layers::new(), Vec::new());
    let layers = desired.images.values().flat_map(|image| &image.layers);
    for layer in layers.filter(|layer| is_of(store, layer)) {
        match Held::layer(store, layer) {
            Ok(Some(layer)) => held.push(layer),
            Ok(None) => remarks.push(format!("the layer {} is gone", layer.display())),
            Err(error) => remarks.push(chain(&error)),
        }
    }
    (held, remarks)
}

fn is_of(store: &Path, layer: &Path) -> bool {
    layer.parent() == Some(&store.join("layers"))
}
