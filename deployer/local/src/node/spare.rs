//! The network of the next pod, made while nothing else happens: a pod that replaces another one
//! does not wait for it.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::task::JoinHandle;

use super::egress::{self, Egress};
use super::host::Host;
use super::pod::chain;
use crate::network::addresses;
use crate::network::links::{LinkError, Links, PodNetwork};
use crate::protocol::NO_EGRESS;

/// A pod's network and its way out.
#[derive(Debug)]
pub(super) struct Made {
    pub network: PodNetwork,
    pub egress: Option<Egress>,
    /// Why there is no way out, where there should be one.
    pub trouble: Option<String>,
}

/// What it takes to make one.
#[derive(Debug, Clone)]
pub(super) struct Maker {
    pub links: Links,
    pub host: Host,
    /// Pasta, where this machine has it.
    pub egress: Option<PathBuf>,
}

impl Maker {
    pub(super) async fn make(&self, pod: u64) -> Result<Made, LinkError> {
        let network = self.links.attach(pod, addresses::of_pod(pod)).await?;
        let (mut egress, mut trouble) = (None, None);
        if let Some(pasta) = &self.egress {
            match egress::open(pasta, &network, &self.host).await {
                Ok(open) => egress = Some(open),
                Err(error) => trouble = Some(format!("{NO_EGRESS}: {}", chain(&error))),
            }
        }
        Ok(Made {
            network,
            egress,
            trouble,
        })
    }
}

type Making = JoinHandle<Result<Made, LinkError>>;

/// At most one network that nobody uses yet.
#[derive(Debug, Clone, Default)]
pub(super) struct Spare(Arc<Mutex<Option<(u64, Making)>>>);

impl Spare {
    /// Makes the network of this pod, unless that has begun.
    pub(super) fn prepare(&self, pod: u64, maker: &Maker) {
        let mut spare = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.as_ref().is_none_or(|(of, _)| *of != pod) {
            let maker = maker.clone();
            *spare = Some((pod, tokio::spawn(async move { maker.make(pod).await })));
        }
    }

    /// The network of this pod: the one that was prepared, or a new one.
    pub(super) async fn take(&self, pod: u64, maker: &Maker) -> Result<Made, LinkError> {
        let prepared = {
            let mut spare = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            spare.take_if(|(of, _)| *of == pod)
        };
        if let Some((_, making)) = prepared
            && let Ok(made) = making.await
        {
            return made;
        }
        maker.make(pod).await
    }
}
