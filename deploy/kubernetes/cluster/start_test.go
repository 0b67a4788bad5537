// Package cluster runs the manifests with the real API server, its default admission plugins, the real Job controller and
// etcd, in one process on loopback. There is no kubelet: the tests set the status of the pods. `make kubernetes` runs it.
package cluster

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/apiserver/pkg/storage/storagebackend"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app/testing"
	jobcontroller "k8s.io/kubernetes/pkg/controller/job"
	strictyaml "sigs.k8s.io/yaml"
)

// name is that of the namespace, of the CronJob, and of its container.
const name = "proxmox-realm"

type cluster struct {
	config *rest.Config
	client kubernetes.Interface
}

func start(t *testing.T) cluster {
	t.Helper()
	findFixtures(t)
	storage := storagebackend.NewDefaultConfig("/registry", nil)
	storage.Transport.ServerList = []string{startEtcd(t)}
	server, err := apiserver.StartTestServer(t, apiserver.NewDefaultTestServerOptions(), nil, storage)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.TearDownFn)
	c := cluster{config: rest.CopyConfig(server.ClientConfig)}
	c.config.QPS = -1 // no limit
	if c.client, err = kubernetes.NewForConfig(c.config); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	t.Cleanup(cancel)
	shared := informers.NewSharedInformerFactory(c.client, 0)
	controller, err := jobcontroller.NewController(ctx, c.client, shared.Core().V1().Pods(), shared.Batch().V1().Jobs(), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	shared.Start(ctx.Done())
	go controller.Run(ctx, 4)
	return c
}

// findFixtures tells the API server's test package where its source folder is, which holds a certificate. Built with
// -trimpath, it does not know, and takes the folder from these variables.
func findFixtures(t *testing.T) {
	t.Helper()
	if _, file, _, _ := runtime.Caller(0); filepath.IsAbs(file) {
		return
	}
	modules, err := exec.CommandContext(t.Context(), "go", "env", "GOMODCACHE").Output()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("TEST_SRCDIR", strings.TrimSpace(string(modules)))
	t.Setenv("TEST_WORKSPACE", ".")
}

func startEtcd(t *testing.T) string {
	t.Helper()
	c := embed.NewConfig()
	c.Dir = filepath.Join(t.TempDir(), "etcd")
	c.LogLevel = "error"
	c.UnsafeNoFsync = true
	c.ListenClientUrls = []url.URL{{Scheme: "http", Host: "127.0.0.1:0"}}
	c.ListenPeerUrls = c.ListenClientUrls
	etcd, err := embed.StartEtcd(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(etcd.Close)
	<-etcd.Server.ReadyNotify()
	return "http://" + etcd.Clients[0].Addr().String()
}

// apply creates the objects of a manifest. The API server refuses unknown fields, and it warns about an object whose pods
// the namespace would refuse. A warning fails the test.
func (c cluster) apply(t *testing.T, path string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	config := rest.CopyConfig(c.config)
	config.WarningHandler = warnings{t}
	objects, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	mapper := restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(c.client.Discovery()))
	documents := yaml.NewYAMLReader(bufio.NewReader(strings.NewReader(string(text))))
	for {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		var object unstructured.Unstructured
		if err := strictyaml.UnmarshalStrict(document, &object.Object); err != nil {
			t.Fatal(err)
		}
		kind := object.GroupVersionKind()
		mapping, err := mapper.RESTMapping(kind.GroupKind(), kind.Version)
		if err != nil {
			t.Fatal(err)
		}
		_, err = objects.Resource(mapping.Resource).Namespace(object.GetNamespace()).
			Create(t.Context(), &object, metav1.CreateOptions{FieldValidation: metav1.FieldValidationStrict})
		if err != nil {
			t.Fatalf("%s %s: %v", kind.Kind, object.GetName(), err)
		}
	}
}

type warnings struct{ t *testing.T }

func (w warnings) HandleWarningHeader(_ int, _, text string) {
	w.t.Helper()
	w.t.Errorf("the API server warns: %s", text)
}

// jobSpec returns the job that the CronJob creates, with the defaults of the API server.
func (c cluster) jobSpec(t *testing.T) batchv1.JobSpec {
	t.Helper()
	cronJob, err := c.client.BatchV1().CronJobs(name).Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return cronJob.Spec.JobTemplate.Spec
}

func (c cluster) create(t *testing.T, jobName string, spec batchv1.JobSpec) *batchv1.Job {
	t.Helper()
	job := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: jobName}, Spec: spec}
	job, err := c.client.BatchV1().Jobs(name).Create(t.Context(), job, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return job
}

// pods waits until a job has as many pods, ended ones included, and returns them.
func (c cluster) pods(t *testing.T, job *batchv1.Job, count int) []corev1.Pod {
	t.Helper()
	var found []corev1.Pod
	err := eventually(t, func(ctx context.Context) (bool, error) {
		list, err := c.client.CoreV1().Pods(name).List(ctx, metav1.ListOptions{LabelSelector: batchv1.JobNameLabel + "=" + job.Name})
		if err == nil {
			found = list.Items
		}
		return len(found) >= count, err
	})
	if err != nil || len(found) != count {
		t.Fatalf("%s has %d pods, want %d: %v", job.Name, len(found), count, err)
	}
	return found
}

// ended waits until a job is complete or has failed.
func (c cluster) ended(t *testing.T, job *batchv1.Job) *batchv1.Job {
	t.Helper()
	err := eventually(t, func(ctx context.Context) (bool, error) {
		now, err := c.client.BatchV1().Jobs(name).Get(ctx, job.Name, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		job = now
		return failed(job) || has(job, batchv1.JobComplete), nil
	})
	if err != nil {
		t.Fatalf("%s does not end: %v; %+v", job.Name, err, job.Status)
	}
	return job
}

func eventually(t *testing.T, condition wait.ConditionWithContextFunc) error {
	t.Helper()
	return wait.PollUntilContextTimeout(t.Context(), 100*time.Millisecond, time.Minute, true, condition)
}

func failed(job *batchv1.Job) bool { return has(job, batchv1.JobFailed) }

func has(job *batchv1.Job, kind batchv1.JobConditionType) bool {
	for _, condition := range job.Status.Conditions {
		if condition.Type == kind && condition.Status == corev1.ConditionTrue {
			return true
		}
	}
	return false
}

// end sets the status of a pod as the kubelet does after its container has ended.
func (c cluster) end(t *testing.T, pod corev1.Pod, code int32, disrupted bool) {
	t.Helper()
	pod.Status.Phase = corev1.PodSucceeded
	if code != 0 {
		pod.Status.Phase = corev1.PodFailed
	}
	if disrupted {
		pod.Status.Conditions = append(pod.Status.Conditions, corev1.PodCondition{
			Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: corev1.PodReasonTerminationByKubelet,
		})
	}
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{{
		Name:  name,
		State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code, FinishedAt: metav1.Now()}},
	}}
	if _, err := c.client.CoreV1().Pods(name).UpdateStatus(t.Context(), &pod, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
}

func index(t *testing.T, pod corev1.Pod) int {
	t.Helper()
	i, err := strconv.Atoi(pod.Labels[batchv1.JobCompletionIndexAnnotation])
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// indexes lists the numbers of a list such as "1,3-5".
func indexes(t *testing.T, list string) []int {
	t.Helper()
	var all []int
	for part := range strings.SplitSeq(list, ",") {
		first, last, isRange := strings.Cut(part, "-")
		if !isRange {
			last = first
		}
		from, errFirst := strconv.Atoi(first)
		to, errLast := strconv.Atoi(last)
		if err := errors.Join(errFirst, errLast); err != nil {
			t.Fatal(err)
		}
		for i := from; i <= to; i++ {
			all = append(all, i)
		}
	}
	return all
}
