//! The logs of what runs on this machine.

use std::sync::PoisonError;

use kiln_local::client::Holder;
use kiln_local::protocol::{Answer, LogWish};
use kiln_schemas::event::Event;
use kiln_schemas::image::BuiltImage;
use kiln_schemas::model::LogPrefix;

use super::super::Engine;
use super::Local;

/// Lines of a log that explain a failure.
const EXPLAINS: usize = 20;

impl Engine {
    /// Starts to follow the logs; once for all deploys.
    pub(super) fn follow_here(&self, local: &Local, _images: &[BuiltImage]) {
        let mut following = local
            .following
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if following.as_ref().is_some_and(|task| !task.is_finished()) {
            return;
        }
        let (holder, events) = (local.holder.clone(), self.events.clone());
        let mode = self.project.modules.first().map(|m| m.deploy.logs.prefix);
        let mode = mode.unwrap_or(LogPrefix::Container);
        *following = Some(tokio::spawn(async move {
            let wish = LogWish {
                follow: true,
                ..LogWish::default()
            };
            let Ok(mut answers) = holder.logs(wish).await else {
                return;
            };
            while let Ok(Some(Answer::Line(line))) = answers.next().await {
                let prefix = kiln_deployer::logs::prefix(mode, &line.pod.name, &line.container);
                events.emit(Event::Log {
                    namespace: line.pod.namespace,
                    pod: line.pod.name,
                    container: line.container,
                    image: None,
                    prefix,
                    line: line.text,
                });
            }
        }));
    }
}

/// The last lines of a pod.
pub(super) async fn last_lines(holder: &Holder, pod: &str) -> Vec<String> {
    let wish = LogWish {
        pod: Some(pod.to_owned()),
        past: true,
        ..LogWish::default()
    };
    let mut lines = Vec::new();
    if let Ok(mut answers) = holder.logs(wish).await {
        while let Ok(Some(Answer::Line(line))) = answers.next().await {
            lines.push(line.text);
        }
    }
    let surplus = lines.len().saturating_sub(EXPLAINS);
    lines.split_off(surplus)
}
