//! What `kiln dev` does when things change at the wrong moment, break, or end.

use kiln_schemas::event::{Event, Readiness};
use kiln_test_cluster::{Cluster, PLAIN_REGISTRY};

use crate::examples::says;
use crate::kiln::{Dev, Project};
use crate::objects;

const MANIFESTS: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: app
spec:
  selector:
    matchLabels: {app: app}
  template:
    metadata:
      labels: {app: app}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
        - name: app
          image: app
          readinessProbe:
            httpGet: {path: /, port: 8080}
            periodSeconds: 1
---
apiVersion: v1
kind: Service
metadata:
  name: app
spec:
  selector: {app: app}
  ports:
    - {port: 80, targetPort: 8080}
";

/// A page on busybox, described by a kiln.yaml; `extra` goes below the image.
fn page(cluster: &Cluster, dockerfile: &str, extra: &str) -> Project {
    let project = Project::empty(cluster, &[]);
    project.write("Dockerfile", dockerfile);
    project.write("index.html", "one\n");
    project.write("k8s/app.yaml", MANIFESTS);
    project.write("k8s/kustomization.yaml", "resources: [app.yaml]\n");
    let config = format!(
        "apiVersion: kiln.dev/v1\nname: page\nimages:\n  - name: app\n{extra}deploy:\n  overlay: k8s\n"
    );
    project.write("kiln.yaml", &config);
    project
}

const COPY_ONLY: &str = "\
FROM busybox
WORKDIR /srv
COPY index.html ./
ENTRYPOINT [\"httpd\", \"-f\", \"-p\", \"8080\", \"-h\", \"/srv\"]
";

fn dev(project: &Project, namespace: &str, more: &[&str]) -> Dev {
    let repo = format!("{PLAIN_REGISTRY}/tests/loops-{namespace}");
    let mut args = vec!["-n", namespace, "-d", &repo];
    args.extend(more);
    project.dev(&args)
}

#[test]
fn a_save_in_the_middle_of_a_run_leaves_the_last_content_and_no_pod() {
    let Some(cluster) = Cluster::for_test() else {
        return;
    };
    let namespace = cluster.namespace("middle").expect("a namespace");
    // RUN takes long enough to be interrupted in its middle.
    let slow = COPY_ONLY.replace(
        "COPY index.html ./\n",
        "COPY index.html ./\nRUN echo started && sleep 5 && cp index.html copy.html\n",
    );
    let project = page(&cluster, &slow, "");
    let mut dev = dev(&project, namespace.name(), &[]);
    dev.wait(
        "the RUN",
        |e| matches!(e, Event::BuildLog { line, .. } if line.ends_with("started")),
    );
    project.edit("index.html", "one", "two");
    dev.wait("the cancelled build", |e| {
        matches!(e, Event::BuildCancelled { .. })
    });
    dev.ready();
    says(&project, &cluster, namespace.name(), ("app", "two"));
    let deploys = dev
        .seen()
        .iter()
        .filter(|e| matches!(e, Event::DeployReady { .. }))
        .count();
    assert_eq!(deploys, 1, "the first content was deployed too");
    let replicas = objects::list(&cluster, namespace.name(), "replicasets");
    assert_eq!(
        replicas.len(),
        1,
        "another state was deployed before: {replicas:#?}"
    );
    objects::no_build_pods(&cluster, namespace.name());

    // kiln.yaml leaves the workloads at Ctrl-C.
    let (code, _) = dev.interrupt();
    assert_eq!(code, 0);
    assert!(objects::names(&cluster, namespace.name(), "deployments").contains("app"));
    objects::no_build_pods(&cluster, namespace.name());
}

#[test]
fn a_second_ctrl_c_ends_at_once_and_other_signals_clean_up_too() {
    let Some(cluster) = Cluster::for_test() else {
        return;
    };
    let namespace = cluster.namespace("signals").expect("a namespace");
    let project = page(&cluster, COPY_ONLY, "");
    // The terminal is closed; CI stops the job.
    for signal in ["HUP", "TERM"] {
        let mut dev = dev(&project, namespace.name(), &["--cleanup"]);
        dev.ready();
        dev.signal(signal);
        assert_eq!(dev.ended(), 0, "after {signal}");
        let left = objects::names(&cluster, namespace.name(), "deployments");
        assert!(left.is_empty(), "after {signal}: {left:?}");
    }

    let mut dev = dev(&project, namespace.name(), &["--cleanup"]);
    dev.ready();
    // Two signals, so that they do not become one; cleaning up takes several requests.
    dev.signals(&["INT", "TERM"]);
    assert_eq!(dev.ended(), 130);
}

#[test]
fn a_failure_keeps_the_loop_alive_and_the_next_change_repairs_it() {
    let Some(cluster) = Cluster::for_test() else {
        return;
    };
    let namespace = cluster.namespace("failure").expect("a namespace");
    let project = page(&cluster, &format!("{COPY_ONLY}RUN false\n"), "");
    let mut dev = dev(&project, namespace.name(), &[]);
    let failed = dev.wait("the failed build", |e| {
        matches!(e, Event::BuildFailed { .. })
    });
    let Event::BuildFailed { failure, .. } = failed else {
        unreachable!()
    };
    let words = format!("{failure:?}");
    assert!(
        words.contains("RUN false") && words.contains("exit code 1"),
        "{words}"
    );

    project.write("Dockerfile", COPY_ONLY);
    dev.ready();
    says(&project, &cluster, namespace.name(), ("app", "one"));

    // A manifest that cannot work is said early, with its reason.
    let broken = MANIFESTS.replace(
        "image: app",
        "image: app\n          command: [/no/such/program]",
    );
    project.write("k8s/app.yaml", &broken);
    let failed = dev.wait("the failed deploy", |e| {
        matches!(e, Event::DeployFailed { .. })
    });
    let words = format!("{failed:?}");
    assert!(words.contains("/no/such/program"), "{words}");
    project.write("k8s/app.yaml", MANIFESTS);
    dev.ready();
    assert_eq!(dev.interrupt().0, 0);
}

#[test]
fn a_changed_configuration_is_read_while_the_loop_goes_on() {
    let Some(cluster) = Cluster::for_test() else {
        return;
    };
    let namespace = cluster.namespace("reload").expect("a namespace");
    let dockerfile = COPY_ONLY.replace(
        "COPY",
        "ARG GREETING=none\nRUN echo $GREETING > who.html\nCOPY",
    );
    let project = page(&cluster, &dockerfile, "");
    let mut dev = dev(&project, namespace.name(), &[]);
    dev.ready();

    // One that is wrong is shown with its place, and waited for.
    let good = std::fs::read_to_string(project.dir().join("kiln.yaml")).expect("the file");
    project.write("kiln.yaml", &good.replace("images:", "imges:"));
    let failed = dev.wait("the wrong configuration", |e| {
        matches!(e, Event::Failed { .. })
    });
    let words = format!("{failed:?}");
    assert!(
        words.contains("kiln.yaml:3:1") && words.contains("images"),
        "{words}"
    );

    project.write(
        "kiln.yaml",
        &good.replace(
            "  - name: app\n",
            "  - name: app\n    args: {GREETING: reader}\n",
        ),
    );
    dev.ready();
    says(
        &project,
        &cluster,
        namespace.name(),
        ("app/who.html", "reader"),
    );
    assert_eq!(dev.interrupt().0, 0);
}

#[test]
fn files_with_a_place_are_copied_into_the_running_container() {
    let Some(cluster) = Cluster::for_test() else {
        return;
    };
    let namespace = cluster.namespace("sync").expect("a namespace");
    let project = page(&cluster, COPY_ONLY, "    sync: {infer: [\"*.html\"]}\n");
    let mut dev = dev(&project, namespace.name(), &[]);
    dev.ready();
    dev.forget();
    project.edit("index.html", "one", "two");
    dev.wait("the sync", |e| matches!(e, Event::Synced { .. }));
    says(&project, &cluster, namespace.name(), ("app", "two"));
    assert!(
        !dev.seen()
            .iter()
            .any(|e| matches!(e, Event::BuildStarted { .. })),
        "a synced file was built: {:#?}",
        dev.seen()
    );
    assert_eq!(dev.interrupt().0, 0);
}

#[test]
fn logs_and_a_forwarded_port_are_there_while_the_loop_runs() {
    let Some(cluster) = Cluster::for_test() else {
        return;
    };
    let namespace = cluster.namespace("follow").expect("a namespace");
    let talks = COPY_ONLY.replace(
        "ENTRYPOINT [\"httpd\", \"-f\", \"-p\", \"8080\", \"-h\", \"/srv\"]",
        "ENTRYPOINT [\"/bin/sh\", \"-c\", \"echo first line; exec httpd -f -p 8080 -h /srv\"]",
    );
    let project = page(&cluster, &talks, "");
    let mut dev = dev(&project, namespace.name(), &["--port-forward=services"]);
    let forwarding = dev.wait("the forward", |e| matches!(e, Event::Forwarding { .. }));
    let Event::Forwarding { local, .. } = forwarding else {
        unreachable!()
    };
    let line_seen = |events: &[Event]| {
        events
            .iter()
            .any(|e| matches!(e, Event::Log { line, .. } if line == "first line"))
    };
    if !line_seen(dev.seen()) {
        dev.wait(
            "the log",
            |e| matches!(e, Event::Log { line, .. } if line == "first line"),
        );
    }
    let ready = |e: &Event| {
        matches!(
            e,
            Event::DeployReady { .. }
                | Event::Status {
                    readiness: Readiness::Ready,
                    ..
                }
        )
    };
    if !dev
        .seen()
        .iter()
        .any(|e| matches!(e, Event::DeployReady { .. }))
    {
        dev.wait("readiness", ready);
    }
    let text = project
        .get(&format!("http://{local}/"))
        .expect("the forwarded port answers");
    assert_eq!(text.trim(), "one");
    assert_eq!(dev.interrupt().0, 0);
}
