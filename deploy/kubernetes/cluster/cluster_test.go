package cluster

import (
	"fmt"
	"slices"
	"strconv"
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
)

// endings lists the exit codes of apply, and how else a container ends, with the number of pods that the Job controller
// creates if the second pod succeeds.
var endings = []struct {
	code      int32
	disrupted bool // the node was drained, or the pod evicted
	pods      int
}{
	{code: 0, pods: 1},
	{code: 1, pods: 2},
	{code: 2, pods: 2}, // a panic of Go
	{code: 11, pods: 1},
	{code: 12, pods: 1},
	{code: 13, pods: 1},
	{code: 64, pods: 1},
	{code: 69, pods: 2},
	{code: 75, pods: 2},
	{code: 77, pods: 1},
	{code: 78, pods: 1},
	{code: 137, pods: 2}, // out of memory
	{code: 143, disrupted: true, pods: 2},
	{code: 78, disrupted: true, pods: 2}, // the disruption decides
}

func TestFleet(t *testing.T) {
	c := start(t)
	c.apply(t, "../fleet.yaml")
	c.apply(t, "../targets.yaml")
	spec := c.jobSpec(t)

	t.Run("a pod for each shard", func(t *testing.T) {
		shards := int(*spec.Completions)
		job := c.create(t, "shards", spec)
		seen := map[int]bool{}
		for _, pod := range c.pods(t, job, shards) {
			seen[index(t, pod)] = true
			env := pod.Spec.Containers[0].Env
			if !slices.ContainsFunc(env, func(e corev1.EnvVar) bool { return e.Name == "JOB_COMPLETION_INDEX" }) {
				t.Errorf("%s has no JOB_COMPLETION_INDEX", pod.Name)
			}
			if !slices.Contains(env, corev1.EnvVar{Name: "PROXMOX_REALM_SHARDS", Value: strconv.Itoa(shards)}) {
				t.Errorf("%s has another number of shards than %d", pod.Name, shards)
			}
			c.end(t, pod, 0, false)
		}
		job = c.ended(t, job)
		if want := fmt.Sprintf("0-%d", shards-1); len(seen) != shards || job.Status.CompletedIndexes != want || failed(job) {
			t.Errorf("indexes %v; the job ended with %+v", seen, job.Status)
		}
	})

	t.Run("the exit code decides about a retry", func(t *testing.T) {
		spec := *spec.DeepCopy()
		count := int32(len(endings))
		spec.Completions, spec.Parallelism = &count, &count
		job := c.create(t, "endings", spec)
		for _, pod := range c.pods(t, job, len(endings)) {
			e := endings[index(t, pod)]
			c.end(t, pod, e.code, e.disrupted)
		}
		total := 0
		var lost, done []int
		for i, e := range endings {
			total += e.pods
			if e.code != 0 && e.pods == 1 {
				lost = append(lost, i)
			} else {
				done = append(done, i)
			}
		}
		pods := make([]int, len(endings))
		for _, pod := range c.pods(t, job, total) {
			pods[index(t, pod)]++
			if pod.Status.Phase == corev1.PodPending {
				c.end(t, pod, 0, false)
			}
		}
		for i, e := range endings {
			if pods[i] != e.pods {
				t.Errorf("exit code %d, disrupted %v: %d pods, want %d", e.code, e.disrupted, pods[i], e.pods)
			}
		}
		job = c.ended(t, job)
		if got := indexes(t, *job.Status.FailedIndexes); !slices.Equal(got, lost) || !failed(job) {
			t.Errorf("failed indexes %v, want %v; the job ended with %+v", got, lost, job.Status)
		}
		if got := indexes(t, job.Status.CompletedIndexes); !slices.Equal(got, done) {
			t.Errorf("completed indexes %v, want %v", got, done)
		}
	})

	t.Run("a shard that keeps failing is given up", func(t *testing.T) {
		spec := *spec.DeepCopy()
		one := int32(1)
		spec.Completions, spec.Parallelism = &one, &one
		job := c.create(t, "lasting", spec)
		for tries := range int(*spec.BackoffLimitPerIndex) + 1 {
			for _, pod := range c.pods(t, job, tries+1) {
				if pod.Status.Phase == corev1.PodPending {
					c.end(t, pod, 69, false)
				}
			}
		}
		if job = c.ended(t, job); !failed(job) || *job.Status.FailedIndexes != "0" {
			t.Errorf("the job ended with %+v", job.Status)
		}
	})
}

func TestSingleCluster(t *testing.T) {
	c := start(t)
	c.apply(t, "../proxmox-realm.yaml")
	spec := c.jobSpec(t)
	var jobs []*batchv1.Job
	for i := range endings {
		jobs = append(jobs, c.create(t, fmt.Sprintf("ending-%d", i), spec))
	}
	for i, e := range endings {
		c.end(t, c.pods(t, jobs[i], 1)[0], e.code, e.disrupted)
	}
	for i, e := range endings {
		t.Run(fmt.Sprintf("exit code %d, disrupted %v", e.code, e.disrupted), func(t *testing.T) {
			for _, pod := range c.pods(t, jobs[i], e.pods) {
				if pod.Status.Phase == corev1.PodPending {
					c.end(t, pod, 0, false)
				}
			}
			if job := c.ended(t, jobs[i]); failed(job) != (e.code != 0 && e.pods == 1) {
				t.Errorf("the job ended with %+v", job.Status)
			}
		})
	}
}
