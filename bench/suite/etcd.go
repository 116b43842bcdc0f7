package suite

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// etcd measures three etcd members, with their data on the same disk as all else and etcd's own settings.
func (b *bench) etcd(ctx context.Context, program string, scenarios []scenario) (err error) {
	runtime.LockOSThread() // see child
	defer runtime.UnlockOSThread()
	const members = 3
	ports, err := freePorts(2 * members)
	if err != nil {
		return err
	}
	url := func(port int) string { return fmt.Sprintf("http://127.0.0.1:%d", port) }
	var urls, peers []string
	for i := range members {
		urls = append(urls, url(ports[i]))
		peers = append(peers, fmt.Sprintf("member%d=%s", i, url(ports[members+i])))
	}
	dir := filepath.Join(b.dir, "etcd")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	var children []*child
	defer func() { err = errors.Join(err, stopAll(children)) }()
	var pids []int
	log := func(i int) string { return filepath.Join(b.dir, fmt.Sprintf("etcd-%d.log", i)) }
	for i := range members {
		c, err := startChild(log(i), program, "--name", fmt.Sprintf("member%d", i), "--data-dir", filepath.Join(dir, fmt.Sprint(i)),
			"--listen-client-urls", urls[i], "--advertise-client-urls", urls[i],
			"--listen-peer-urls", url(ports[members+i]), "--initial-advertise-peer-urls", url(ports[members+i]),
			"--initial-cluster", strings.Join(peers, ","), "--initial-cluster-state", "new", "--log-level", "warn")
		if err != nil {
			return err
		}
		children = append(children, c)
		pids = append(pids, c.cmd.Process.Pid)
	}
	asker := &http.Client{Timeout: time.Second}
	defer asker.CloseIdleConnections()
	for i, c := range children {
		err := c.await(ctx, log(i), func() bool {
			answer, err := asker.Get(urls[i] + "/health")
			if err != nil {
				return false
			}
			_ = answer.Body.Close() // only the status matters
			return answer.StatusCode == http.StatusOK
		})
		if err != nil {
			return err
		}
	}
	b.note("etcd-*: three members of %s, default settings and fsync; driven by this load generator's own minimal gRPC client, one connection a client.", program)
	leader, err := etcdLeader(ctx, asker, urls)
	if err != nil {
		return err
	}
	for at, s := range scenarios {
		on := s.at.among(urls, leader)
		var f fleet
		for i := range s.clients {
			host, err := hostOf(on[i%len(on)])
			if err != nil {
				return err
			}
			id := uint64(at)<<32 | uint64(i) // keys are new in each scenario
			if s.batch > 1 {
				f = append(f, &grpcClient{addr: host, method: etcdTxn, next: newEtcdTxn(id, s.batch).next})
			} else {
				f = append(f, &grpcClient{addr: host, method: etcdPut, next: newEtcdPut(id).next})
			}
		}
		if err := b.measure(ctx, s, f, groups{"etcd": pids}); err != nil {
			return err
		}
	}
	return nil
}

// etcdLeader finds the member that leads among those with these URLs.
func etcdLeader(ctx context.Context, asker *http.Client, urls []string) (string, error) {
	for _, url := range urls {
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/v3/maintenance/status", strings.NewReader("{}"))
		if err != nil {
			return "", err
		}
		answer, err := asker.Do(request)
		if err != nil {
			return "", err
		}
		var status struct {
			Header struct {
				Member string `json:"member_id"`
			} `json:"header"`
			Leader string `json:"leader"`
		}
		if err := errors.Join(json.NewDecoder(answer.Body).Decode(&status), answer.Body.Close()); err != nil {
			return "", fmt.Errorf("status of %s: %w", url, err)
		}
		if status.Leader != "" && status.Leader == status.Header.Member {
			return url, nil
		}
	}
	return "", errors.New("no member leads")
}
