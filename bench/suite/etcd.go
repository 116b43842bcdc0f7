package suite

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// etcd measures three etcd members with default settings and their data on the same disk.
func (b *bench) etcd(ctx context.Context, program string, scenarios []scenario) (err error) {
	runtime.LockOSThread() // see child
	defer runtime.UnlockOSThread()
	const size = 3
	ports, err := freePorts(2 * size)
	if err != nil {
		return err
	}
	url := func(port int) string { return fmt.Sprintf("http://127.0.0.1:%d", port) }
	var urls, peers []string
	for i := range size {
		urls = append(urls, url(ports[i]))
		peers = append(peers, fmt.Sprintf("member%d=%s", i, url(ports[size+i])))
	}
	dir := filepath.Join(b.dir, "etcd")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	var children []*child
	defer func() { err = errors.Join(err, stopAll(children)) }()
	var members processes
	log := func(i int) string { return filepath.Join(b.dir, fmt.Sprintf("etcd-%d.log", i)) }
	for i := range size {
		c, err := startChild(log(i), program, "--name", fmt.Sprintf("member%d", i), "--data-dir",
			filepath.Join(dir, fmt.Sprint(i)), "--listen-client-urls", urls[i], "--advertise-client-urls", urls[i],
			"--listen-peer-urls", url(ports[size+i]), "--initial-advertise-peer-urls", url(ports[size+i]),
			"--initial-cluster", strings.Join(peers, ","), "--initial-cluster-state", "new", "--log-level", "warn")
		if err != nil {
			return err
		}
		children = append(children, c)
		members = append(members, process{group: "etcd", name: fmt.Sprintf("member%d", i), pid: c.cmd.Process.Pid})
	}
	client, err := clientv3.New(clientv3.Config{
		Endpoints: urls, DialTimeout: dialTimeout, Context: ctx, Logger: zap.NewNop(),
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, client.Close()) }()
	leader, err := awaitEtcd(ctx, client, urls, children, log)
	if err != nil {
		return err
	}
	b.note("etcd-*: three members of %s, default settings and fsync; etcd's own Go client, one connection a client.",
		program)
	members = members.leading(members[slices.Index(urls, leader)].name)
	seeded := false
	for at, s := range scenarios {
		if s.work == workRead && !seeded {
			seeded = true
			err := seedEtcd(ctx, client, b.cfg.ReadRecords, func(done int) {
				b.progress(s, "putting keys: %s of %s", thousands(float64(done)), thousands(float64(b.cfg.ReadRecords)))
			})
			if err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
			b.note("etcd-read-*: any of %s keys, each as likely, put in transactions of 100 and compacted before.",
				thousands(float64(b.cfg.ReadRecords)))
		}
		on := s.at.among(urls, leader)
		var f fleet
		for i := range s.clients {
			call := putter(uint64(at)<<32|uint64(i), s.batch) // keys are new in each scenario
			if s.work == workRead {
				call = getter(b.cfg.ReadRecords, s.stale)
			}
			f = append(f, newEtcdClient(on[i%len(on)], call))
		}
		if err := b.measure(ctx, s, f, members); err != nil {
			return err
		}
	}
	return nil
}

// awaitEtcd waits until every member knows the leader, and returns the leader's URL.
func awaitEtcd(ctx context.Context, client *clientv3.Client, urls []string, children []*child,
	log func(i int) string) (leader string, err error) {
	for i, c := range children {
		err := c.await(ctx, log(i), func() bool {
			short, cancel := context.WithTimeout(ctx, time.Second)
			defer cancel()
			status, err := client.Status(short, urls[i])
			if err == nil && status.Leader == status.Header.MemberId {
				leader = urls[i]
			}
			return err == nil && status.Leader != 0
		})
		if err != nil {
			return "", err
		}
	}
	if leader == "" {
		return "", errors.New("no member leads")
	}
	return leader, nil
}
