//! `ps`, `logs` and `exec` on this machine.

use std::os::fd::AsFd;

use kiln_local::pod::{Phase, Status};
use kiln_local::protocol::{Answer, ExecWish, LogWish, PodView};
use kiln_schemas::event::Failure;

use super::{Local, terminal};
use crate::engine::look::{PodLine, Wish};

pub(super) fn failure(error: impl std::error::Error + 'static) -> Failure {
    Failure::from_error(&error)
}

impl Local {
    fn check(&self) -> Result<(), Failure> {
        if self.holder.is_running() {
            Ok(())
        } else {
            Err(Failure::new("nothing of this project runs on this machine"))
        }
    }

    /// The pods.
    pub async fn pods(&self) -> Result<Vec<PodLine>, Failure> {
        if !self.holder.is_running() {
            return Ok(Vec::new());
        }
        let world = self.holder.world().await.map_err(failure)?;
        Ok(world.pods.iter().map(line).collect())
    }

    /// The lines of containers, each with its pod and container.
    pub async fn lines(
        &self,
        wish: &Wish,
        show: &mut (dyn FnMut(&str, &str, &str) + Send),
    ) -> Result<(), Failure> {
        self.check()?;
        let wish = LogWish {
            pod: wish.pod.clone(),
            container: wish.container.clone(),
            follow: wish.follow,
            past: true,
        };
        let mut answers = self.holder.logs(wish).await.map_err(failure)?;
        while let Some(Answer::Line(line)) = answers.next().await.map_err(failure)? {
            show(&line.pod.name, &line.container, &line.text);
        }
        Ok(())
    }

    /// Runs a command on this process's own streams; its code.
    pub async fn execute(&self, wish: &Wish, command: &[String]) -> Result<i32, Failure> {
        self.check()?;
        let request = ExecWish {
            pod: wish.pod.clone().unwrap_or_default(),
            container: wish.container.clone(),
            command: command.to_vec(),
            terminal: wish.terminal,
        };
        if request.terminal {
            return terminal::execute(&self.holder, request).await;
        }
        let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
        let streams = [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()];
        self.holder.exec(request, streams).await.map_err(failure)
    }
}

fn line(pod: &PodView) -> PodLine {
    let main: Vec<_> = pod.containers.iter().filter(|c| c.is_main).collect();
    let waits = pod.containers.iter().find_map(|c| match &c.status {
        Status::BackOff(_) => Some("CrashLoopBackOff".to_owned()),
        _ => None,
    });
    let phase = match pod.phase {
        Phase::Pending => "Pending",
        Phase::Running => "Running",
        Phase::Succeeded => "Completed",
        Phase::Failed => "Error",
    };
    PodLine {
        name: pod.name.name.clone(),
        ready: (main.iter().filter(|c| c.ready).count(), main.len()),
        status: match (pod.stopping, waits) {
            (true, _) => "Terminating".to_owned(),
            (false, Some(waits)) => waits,
            (false, None) => phase.to_owned(),
        },
        restarts: pod.containers.iter().map(|c| u64::from(c.restarts)).sum(),
        age: pod.age,
    }
}
