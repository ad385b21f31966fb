//! Builds in a real cluster: API server, kubelet, containerd and registries of
//! the harness in `tests/cluster`.

mod live_support;

use std::time::Duration;

use kiln_builder::cache::Registry as _;
use kiln_builder::cluster::{BuildError, ExecutorPolicy, Patience, diagnose::Diagnosis};
use kiln_schemas::event::{Event, Phase};
use kiln_schemas::image::ImageDigest;
use kiln_test_cluster::PLAIN_REGISTRY;
use live_support::{Setup, Site, wait_until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tokio_util::sync::CancellationToken;

const DOCKERFILE: &str = "FROM busybox AS build\n\
    COPY greeting /src/greeting\n\
    RUN cat /src/greeting > /made && echo made it\n\
    FROM busybox\n\
    COPY --from=build /made /made\n";

#[test]
fn kilns_executor_builds_and_the_digest_is_the_registrys() {
    let Some(site) = Site::new("own", DOCKERFILE) else {
        return;
    };
    if site.executor().is_none() {
        return;
    }
    site.run(async |setup: Setup| {
        let built = setup.build().await.expect("the build succeeds");
        let there = setup.registry.digest(&setup.reference).await.unwrap();
        assert_eq!(Some(built.digest), there);
        assert_eq!(setup.pods().await, Vec::<String>::new(), "no pod is left");

        let events = setup.events();
        let log = setup.log();
        assert!(log.iter().any(|line| line.contains("made it")), "{log:#?}");
        for phase in [Phase::PodStart, Phase::Context, Phase::Run, Phase::Push] {
            let timed =
                |event: &Event| matches!(event, Event::Timing { phase: p, .. } if *p == phase);
            assert!(events.iter().any(timed), "no timing of {phase:?}");
        }
    });
}

/// The connection that brought the context also brings the log; when it is
/// lost, the pod's log goes on where it ended.
#[test]
fn a_log_whose_connection_is_lost_goes_on_without_a_line_twice() {
    let dockerfile = "FROM busybox\nRUN echo before; sleep 5; echo after\n";
    let Some(site) = Site::new("lost", dockerfile) else {
        return;
    };
    if site.executor().is_none() {
        return;
    }
    site.run(async |setup: Setup| {
        let says = |word: &str| {
            let log = setup.log();
            log.iter().filter(|line| line.ends_with(word)).count()
        };
        let cancel = CancellationToken::new();
        let (result, killed) = tokio::join!(setup.build_until(&cancel), async {
            wait_until("the build runs", async || says("]   before") == 1).await;
            let pod = setup.pods().await.swap_remove(0);
            processes_in(&pod, "receive\0--follow")
                .into_iter()
                .filter(|pid| kill_process(*pid, Signal::KILL).is_ok())
                .count()
        });
        assert_eq!(killed, 1, "the receiver was there");
        result.expect("the build succeeds");
        assert_eq!(
            (says("]   before"), says("]   after")),
            (1, 1),
            "{:#?}",
            setup.log()
        );
    });
}

/// Ids of the processes of a pod of this machine whose command line has `part`.
fn processes_in(pod: &str, part: &str) -> Vec<Pid> {
    let entries = std::fs::read_dir("/proc").expect("/proc").flatten();
    let ids = entries.filter_map(|entry| entry.file_name().into_string().ok());
    ids.filter(|id| {
        let read = |file: &str| std::fs::read(format!("/proc/{id}/{file}")).unwrap_or_default();
        let line = String::from_utf8_lossy(&read("cmdline")).into_owned();
        line.contains(part) && read("root/etc/hostname").trim_ascii() == pod.as_bytes()
    })
    .filter_map(|id| Pid::from_raw(id.parse().ok()?))
    .collect()
}

#[test]
fn an_executor_as_written_gets_the_context_and_its_message_is_the_digest() {
    let Some(site) = Site::new("written", DOCKERFILE) else {
        return;
    };
    let digest = format!("sha256:{}", "c".repeat(64));
    site.run(async |mut setup: Setup| {
        setup.artifact.executor.image = Some("busybox".into());
        setup.artifact.executor.init_image = Some("busybox".into());
        setup.stand_in(&format!(
            "ls -R /kaniko/buildcontext; cat /kaniko/buildcontext/greeting; \
             echo -n {digest} > /dev/termination-log"
        ));
        let built = setup.build().await.expect("the build succeeds");
        assert_eq!(built.digest.as_str(), digest);
        let log = setup.log();
        for line in ["Dockerfile", "greeting", "hello"] {
            assert!(
                log.iter().any(|found| found == line),
                "{line} is not in {log:#?}"
            );
        }
        assert_eq!(setup.pods().await, Vec::<String>::new());
    });
}

#[test]
fn kilns_image_serves_as_init_container_where_none_is_named() {
    let Some(site) = Site::new("init", DOCKERFILE) else {
        return;
    };
    if site.executor().is_none() {
        return;
    }
    let digest = format!("sha256:{}", "e".repeat(64));
    site.run(async |mut setup: Setup| {
        setup.stand_in(&format!(
            "cat /kaniko/buildcontext/greeting && echo -n {digest} > /dev/termination-log"
        ));
        setup.artifact.executor.init_image = None;
        let built = setup.build().await.expect("the build succeeds");
        assert_eq!(built.digest.as_str(), digest);
    });
}

/// An image with a shell and without tar: the upload fails, and that is said
/// at once and not after the limit of the upload.
#[test]
fn a_context_that_cannot_be_unpacked_is_an_error_at_once() {
    let Some(site) = Site::new("upload", DOCKERFILE) else {
        return;
    };
    site.run(async |mut setup: Setup| {
        setup.stand_in("true");
        setup.artifact.upload.attempts = 2;
        setup.artifact.upload.timeout = Duration::from_hours(1);
        setup.without_tar();
        let failure = setup.build().await.unwrap_err().failure();
        assert_eq!(
            failure.message,
            "cannot send the build context (attempt 2 of 2)"
        );
        assert!(
            failure.causes[0].contains("tar -zxf - -C /kaniko/buildcontext"),
            "{failure:?}"
        );
        assert_eq!(setup.pods().await, Vec::<String>::new());
    });
}

#[test]
fn a_deleted_tag_is_not_cached_and_another_tag_of_the_digest_is_made() {
    let Some(site) = Site::new("cache", DOCKERFILE) else {
        return;
    };
    site.run(async |setup: Setup| {
        let registry = &setup.registry;
        let busybox = format!("{PLAIN_REGISTRY}/library/busybox:latest");
        let digest = registry
            .digest(&busybox)
            .await
            .unwrap()
            .expect("the harness pushed it");
        let absent = format!("{PLAIN_REGISTRY}/library/busybox:{}", setup.namespace);
        assert_eq!(registry.digest(&absent).await.unwrap(), None);
        assert!(registry.retag(&digest, &absent).await.unwrap());
        assert_eq!(registry.digest(&absent).await.unwrap(), Some(digest));

        let gone = ImageDigest::parse(&format!("sha256:{}", "9".repeat(64))).unwrap();
        assert!(
            !registry.retag(&gone, &absent).await.unwrap(),
            "what is gone is built again"
        );
    });
}

#[test]
fn the_archived_executor_is_replaced_and_that_is_said_once() {
    let Some(site) = Site::new("archived", DOCKERFILE) else {
        return;
    };
    if site.executor().is_none() {
        return;
    }
    site.run(async |mut setup: Setup| {
        setup.artifact.executor.image = Some("gcr.io/kaniko-project/executor:latest".into());
        setup.build().await.expect("the build succeeds");
        setup.build().await.expect("and again");
        let notes = setup
            .events()
            .into_iter()
            .filter(|event| matches!(event, Event::Note { .. }));
        assert_eq!(notes.count(), 1);
    });
}

#[test]
fn where_this_host_may_not_push_the_executor_is_streamed() {
    let Some(site) = Site::new("streamed", DOCKERFILE) else {
        return;
    };
    if site.executor().is_none() {
        return;
    }
    site.run(async |mut setup: Setup| {
        setup.artifact.executor.init_image = Some("busybox".into());
        setup.unreachable_registry();
        let built = setup.build().await.expect("the build succeeds");
        assert_eq!(built.digest.as_str().len(), 71);
        let note = setup.events().into_iter().find_map(|event| match event {
            Event::Note { message } => Some(message),
            _ => None,
        });
        assert!(
            note.unwrap()
                .starts_with("the executor is streamed into busybox")
        );
    });
}

#[test]
fn credentials_and_certificates_reach_the_executor_and_the_kubelet() {
    let Some(site) = Site::new("private", DOCKERFILE) else {
        return;
    };
    if site.executor().is_none() {
        return;
    }
    site.run(async |mut setup: Setup| {
        setup.use_private_registry();
        let built = setup.build().await.expect("the build succeeds");
        assert_eq!(
            setup.registry.digest(&setup.reference).await.unwrap(),
            Some(built.digest)
        );
        assert_eq!(
            setup.secrets().await,
            Vec::<String>::new(),
            "made secrets are gone"
        );
    });
}

#[test]
fn an_image_that_cannot_be_pulled_is_told_with_the_registrys_words() {
    let Some(site) = Site::new("pull", DOCKERFILE) else {
        return;
    };
    site.run(async |mut setup: Setup| {
        setup.artifact.executor.image = Some("busybox:no-such-tag".into());
        setup.artifact.executor.init_image = Some("busybox:no-such-tag".into());
        setup.patience = Patience { image_pull: Duration::from_secs(3), ..Patience::default() };
        let error = setup.build().await.unwrap_err();
        let BuildError::Pod(Diagnosis::ImagePull { image, words, .. }) = &error else {
            panic!("{error:?}");
        };
        assert!(image.ends_with("busybox:no-such-tag"), "{image}");
        assert!(words.contains("not found"), "{words}");
        let held = |event: &Event| matches!(event, Event::Held { why, .. } if why.contains("cannot be pulled"));
        assert!(setup.events().iter().any(held), "it is said while it is still tried");
        assert_eq!(setup.pods().await, Vec::<String>::new());
    });
}

#[test]
fn a_build_that_fails_tells_its_exit_code_and_last_lines() {
    let Some(site) = Site::new("exit", DOCKERFILE) else {
        return;
    };
    site.run(async |mut setup: Setup| {
        // One stream: the order between two is the container runtime's affair.
        setup.stand_in("echo one >&2; echo 'no such module' >&2; exit 7");
        let error = setup.build().await.unwrap_err();
        let failure = error.failure();
        assert_eq!(failure.message, "the build failed with exit code 7");
        assert_eq!(failure.log, ["one", "no such module"]);
        assert_eq!(setup.pods().await, Vec::<String>::new());
    });
}

#[test]
fn a_build_that_uses_too_much_memory_names_the_limit() {
    let Some(site) = Site::new("memory", DOCKERFILE) else {
        return;
    };
    site.run(async |mut setup: Setup| {
        setup.cluster.resources = Some(json!({"limits": {"memory": "24Mi"}}));
        setup.stand_in("exec tail -c 200000000 /dev/zero");
        let error = setup.build().await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "container kaniko was killed for using more memory than its limit of 24Mi"
        );
    });
}

#[test]
fn a_missing_secret_is_named() {
    let Some(site) = Site::new("missing", DOCKERFILE) else {
        return;
    };
    site.run(async |mut setup: Setup| {
        setup.cluster.volumes = vec![json!({"name": "x", "secret": {"secretName": "not-there"}})];
        setup.artifact.volume_mounts = vec![json!({"name": "x", "mountPath": "/x"})];
        setup.stand_in("true");
        setup.patience = Patience {
            missing: Duration::from_secs(2),
            ..Patience::default()
        };
        let error = setup.build().await.unwrap_err();
        assert!(
            matches!(error, BuildError::Pod(Diagnosis::Missing { .. })),
            "{error:?}"
        );
        assert!(error.to_string().contains("not-there"), "{error}");
    });
}

#[test]
fn a_node_that_does_not_exist_is_the_schedulers_to_explain() {
    let Some(site) = Site::new("node", DOCKERFILE) else {
        return;
    };
    site.run(async |mut setup: Setup| {
        setup
            .cluster
            .node_selector
            .insert("no-such".into(), "label".into());
        setup.stand_in("true");
        setup.patience = Patience {
            unschedulable: Duration::from_secs(2),
            ..Patience::default()
        };
        let error = setup.build().await.unwrap_err();
        assert!(
            matches!(error, BuildError::Pod(Diagnosis::Unschedulable { .. })),
            "{error:?}"
        );
        assert!(
            error.to_string().contains("0/1 nodes are available"),
            "{error}"
        );
    });
}

#[test]
fn a_quota_is_told_as_the_server_tells_it() {
    let Some(site) = Site::new("quota", DOCKERFILE) else {
        return;
    };
    site.run(async |mut setup: Setup| {
        setup.forbid_pods_by_quota().await;
        setup.stand_in("true");
        let error = setup.build().await.unwrap_err();
        assert!(error.to_string().contains("exceeded quota"), "{error}");
        assert!(
            error.failure().hints.is_empty(),
            "a quota is not a matter of roles"
        );
    });
}

#[test]
fn missing_rights_print_the_role_that_gives_them() {
    let Some(site) = Site::new("rights", DOCKERFILE) else {
        return;
    };
    site.run(async |mut setup: Setup| {
        setup.client = site.weak_client().await;
        setup.stand_in("true");
        let failure = setup.build().await.unwrap_err().failure();
        assert!(
            failure
                .message
                .starts_with("not allowed to create the build pod"),
            "{failure:?}"
        );
        let role = failure.hints.join("\n");
        assert!(
            role.contains("kind: Role") && role.contains("pods/exec"),
            "{role}"
        );
        assert!(
            role.contains(&format!("namespace: {}", setup.namespace)),
            "{role}"
        );
    });
}

/// The Role in the hint is enough for a build: it is applied as printed.
#[test]
fn the_printed_role_is_enough_for_a_build() {
    let Some(site) = Site::new("role", DOCKERFILE) else {
        return;
    };
    site.run(async |mut setup: Setup| {
        setup.client = site.weak_client().await;
        setup.stand_in("test -f /kaniko/buildcontext/greeting && echo -n sha256:$(printf 'd%.0s' $(seq 64)) > /dev/termination-log");
        let failure = setup.build().await.unwrap_err().failure();
        let yaml = failure.hints[0].split_once(":\n").unwrap().1.to_owned();
        setup.grant(&yaml).await;
        let built = setup.build().await.expect("the role is enough");
        assert_eq!(built.digest.as_str(), format!("sha256:{}", "d".repeat(64)));
        assert_eq!(setup.pods().await, Vec::<String>::new());
    });
}

#[test]
fn cancelling_a_running_build_deletes_its_pod() {
    let Some(site) = Site::new("cancel", DOCKERFILE) else {
        return;
    };
    site.run(async |mut setup: Setup| {
        setup.stand_in("echo it runs; sleep 600");
        let cancel = CancellationToken::new();
        let (result, ()) = tokio::join!(setup.build_until(&cancel), async {
            wait_until("the build runs", async || {
                setup.log().contains(&"it runs".to_owned())
            })
            .await;
            cancel.cancel();
        });
        assert!(matches!(result, Err(BuildError::Cancelled)), "{result:?}");
        wait_until("the pod is gone", async || setup.pods().await.is_empty()).await;
    });
}

/// Whatever becomes of Kiln, the cluster takes the secret away with the pod.
#[test]
fn a_secret_that_was_made_for_a_build_belongs_to_its_pod() {
    let Some(site) = Site::new("owned", DOCKERFILE) else {
        return;
    };
    site.run(async |mut setup: Setup| {
        setup.use_private_registry();
        setup.stand_in("echo it runs; sleep 600");
        let cancel = CancellationToken::new();
        let (_, ()) = tokio::join!(setup.build_until(&cancel), async {
            wait_until("the build runs", async || {
                setup.log().contains(&"it runs".to_owned())
            })
            .await;
            let pods = setup.pods().await;
            let owners = setup.owners_of_secrets().await;
            assert!(!owners.is_empty());
            assert!(owners.iter().all(|owner| *owner == pods), "{owners:?}");
            cancel.cancel();
        });
        wait_until("they are gone", async || {
            setup.pods().await.is_empty() && setup.secrets().await.is_empty()
        })
        .await;
    });
}

#[test]
fn a_timeout_is_the_configured_one_and_shows_the_log() {
    let Some(site) = Site::new("timeout", DOCKERFILE) else {
        return;
    };
    site.run(async |mut setup: Setup| {
        // Time enough for the first line to arrive from a busy node.
        setup.cluster.timeout = Duration::from_secs(12);
        setup.stand_in("echo stuck; sleep 600");
        let failure = setup.build().await.unwrap_err().failure();
        assert_eq!(
            failure.message,
            "the build took longer than its timeout of 12 s"
        );
        assert_eq!(failure.log, ["stuck"]);
    });
}

#[test]
fn the_sweep_takes_what_was_left_and_nothing_else() {
    let Some(site) = Site::new("sweep", DOCKERFILE) else {
        return;
    };
    site.run(async |mut setup: Setup| {
        let (over, running) = ("2020-01-01T00:00:00Z", "2999-01-01T00:00:00Z");
        setup.leave_pod("left", "alice", over).await;
        setup.leave_pod("alive", "alice", running).await;
        setup.leave_pod("colleagues", "bob", over).await;
        setup.policy = ExecutorPolicy::Kiln;
        let swept = setup.backend().sweep(jiff::Timestamp::now()).await.unwrap();
        assert_eq!(swept.pods, ["left"]);
        wait_until("it is gone", async || {
            setup.pods().await == ["alive", "colleagues"]
        })
        .await;
    });
}
