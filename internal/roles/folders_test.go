package roles

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/internal/worker"
	"github.com/chainstore/chainstore/storagenode/audit"
	"github.com/chainstore/chainstore/wire"
)

// acknowledged is expect.json, the data that the cluster of an earlier version had acknowledged.
type acknowledged struct {
	ClusterToken string                            `json:"cluster_token"`
	AdminToken   string                            `json:"admin_token"`
	Reader       string                            `json:"reader"`
	Revoked      string                            `json:"revoked"`
	Quota        uint64                            `json:"quota"`
	Projects     map[string]struct{ Token string } `json:"projects"`
	Records      []acknowledgedRecord              `json:"records"`
	Head         struct {
		Height uint64 `json:"height"`
		Size   uint64 `json:"size"`
	} `json:"head"`
	Leader  string `json:"leader"`
	Storage string `json:"storage"`
	Miner   string `json:"miner"`
}

type acknowledgedRecord struct {
	Project string `json:"project"`
	Key     string `json:"key"`
	Payload string `json:"payload"`
	Block   uint64 `json:"block"`
	Offset  uint64 `json:"offset"`
	Index   uint64 `json:"index"`
	Leaf    string `json:"leaf"`
}

// oldCluster is the cluster of an earlier version, run by the current code: one master, one storage node, one miner.
type oldCluster struct {
	t                            *testing.T
	expect                       acknowledged
	dir                          string
	master, raft, storage, miner string // addresses
}

func unpackCluster(t *testing.T, commit string) *oldCluster {
	t.Helper()
	ports := freePorts(t, 4)
	c := &oldCluster{t: t, dir: t.TempDir(), master: ports[0], raft: ports[1], storage: ports[2], miner: ports[3]}
	source := filepath.Join("testdata", "folders", commit)
	data, err := os.ReadFile(filepath.Join(source, "expect.json"))
	if err == nil {
		err = json.Unmarshal(data, &c.expect)
	}
	for _, role := range []string{"master", "storage", "miner"} {
		err = errors.Join(err, unpack(filepath.Join(source, role+".tar.gz"), filepath.Join(c.dir, role)))
	}
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// unpack extracts an archive into a new folder.
func unpack(archive, dir string) error {
	f, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return err
	}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		path := filepath.Join(dir, filepath.FromSlash(h.Name))
		if h.Typeflag == tar.TypeDir {
			err = os.MkdirAll(path, 0o700)
		} else {
			var data []byte
			if data, err = io.ReadAll(r); err == nil {
				err = os.WriteFile(path, data, 0o600)
			}
		}
		if err != nil {
			return err
		}
	}
}

func (c *oldCluster) node(role, address string) NodeConfig {
	return NodeConfig{
		Data: filepath.Join(c.dir,
			role), HTTP: address, ClusterToken: c.expect.ClusterToken, Logger: hclog.NewNullLogger(),
	}
}

// leaveTemporaryFiles puts into the folder of each role what a process leaves that is killed while it writes a file.
func (c *oldCluster) leaveTemporaryFiles() (left []string) {
	c.t.Helper()
	for _, role := range []string{"master", "storage", "miner"} {
		path := filepath.Join(c.dir, role, ".file.tmp-12345")
		if err := os.WriteFile(path, []byte("half"), 0o600); err != nil {
			c.t.Fatal(err)
		}
		left = append(left, path)
	}
	return left
}

// run opens the three roles, runs them while do works with them, and stops them.
func (c *oldCluster) run(do func()) {
	c.t.Helper()
	masterConfig, storageConfig, minerConfig := DefaultMaster(), DefaultStorage(), DefaultMiner()
	masterConfig.NodeConfig, masterConfig.Raft = c.node("master", c.master), c.raft
	masterConfig.AdminToken, masterConfig.Timeout = c.expect.AdminToken, time.Second
	masterConfig.Settings.Replicas = 1
	storageConfig.NodeConfig, minerConfig.NodeConfig = c.node("storage", c.storage), c.node("miner", c.miner)
	left := c.leaveTemporaryFiles()
	urls := []string{"http://" + c.master}
	storageConfig.Masters, minerConfig.Masters = urls, urls
	m, err := OpenMaster(masterConfig)
	if err != nil {
		c.t.Fatal(err)
	}
	s, err := OpenStorage(storageConfig)
	if err != nil {
		c.t.Fatal(err, m.Close())
	}
	n, err := OpenMiner(minerConfig)
	if err != nil {
		c.t.Fatal(err, m.Close(), s.Close())
	}
	for _, path := range left {
		if _, err := os.Lstat(path); err == nil {
			c.t.Errorf("%s is left", path)
		}
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 3)
	for _, run := range []func(context.Context) error{m.Run, s.Run, n.Run} {
		go func() { ended <- run(ctx) }()
	}
	defer func() {
		stop()
		for range 3 {
			if err := <-ended; err != nil {
				c.t.Error(err)
			}
		}
	}()
	do()
}

// call sends a request until the response is final: a master without a leader returns 503.
func (c *oldCluster) call(method, path, token string, body []byte) (status int, answer []byte) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), time.Minute)
	defer cancel()
	for {
		r, err := http.NewRequestWithContext(ctx, method, "http://"+c.master+path, bytes.NewReader(body))
		if err != nil {
			c.t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+token)
		r.Header.Set("Accept", "application/json")
		if method == http.MethodPost {
			r.Header.Set("Content-Type", "text/plain")
			r.Header.Set("Idempotency-Key", string(body))
		}
		response, err := http.DefaultClient.Do(r)
		if err == nil {
			answer, err = io.ReadAll(response.Body)
			err = errors.Join(err, response.Body.Close())
		}
		if err == nil && response.StatusCode != http.StatusServiceUnavailable {
			return response.StatusCode, answer
		}
		select {
		case <-ctx.Done():
			c.t.Fatalf("%s %s: %v, %s", method, path, err, answer)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// get decodes the response to a GET request.
func (c *oldCluster) get(path, token string, into any) {
	c.t.Helper()
	status, answer := c.call(http.MethodGet, path, token, nil)
	if err := json.Unmarshal(answer, into); status != http.StatusOK || err != nil {
		c.t.Fatalf("%s: %d, %v, %s", path, status, err, answer)
	}
}

// checkRecord reads a record and compares it with the acknowledged one.
func (c *oldCluster) checkRecord(want acknowledgedRecord, token string) {
	c.t.Helper()
	var got struct {
		acknowledgedRecord
		Payload []byte `json:"payload"`
	}
	c.get(fmt.Sprintf("/v1/blocks/%d/records/%d", want.Block, want.Offset), token, &got)
	record := got.acknowledgedRecord
	record.Payload = string(got.Payload)
	if record != want {
		c.t.Errorf("the record is %+v, want %+v", record, want)
	}
}

// append appends a record, waits until it is stored, and adds it to the expected records.
func (c *oldCluster) append(project, payload string) {
	c.t.Helper()
	token := c.expect.Projects[project].Token
	status, answer := c.call(http.MethodPost, "/v1/records?wait=stored&timeout=30s", token, []byte(payload))
	record := acknowledgedRecord{Project: project, Payload: payload}
	if err := json.Unmarshal(answer, &record); status != http.StatusCreated || err != nil {
		c.t.Fatalf("append: %d, %v, %s", status, err, answer)
	}
	record.Project, record.Payload = project, payload
	c.expect.Records = append(c.expect.Records, record)
}

// clusterStatus is the part of the cluster's status that is compared.
type clusterStatus struct {
	Leader string `json:"leader"`
	Head   struct {
		Height uint64 `json:"height"`
		Size   uint64 `json:"size"`
	} `json:"head"`
	Storages []struct {
		ID    string `json:"id"`
		State string `json:"state"`
		Live  bool   `json:"live"`
	} `json:"storages"`
	Miners []struct {
		ID   string `json:"id"`
		Live bool   `json:"live"`
	} `json:"miners"`
}

// awaitWorkers waits until the storage node and the miner have registered with their previous ids.
func (c *oldCluster) awaitWorkers() (status clusterStatus) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), time.Minute)
	defer cancel()
	for {
		status = clusterStatus{}
		c.get("/v1/cluster", c.expect.AdminToken, &status)
		if len(status.Storages) != 1 || len(status.Miners) != 1 || status.Storages[0].ID != c.expect.Storage ||
			status.Miners[0].ID != c.expect.Miner {
			c.t.Fatalf("the workers are %+v, want storage node %s and miner %s", status, c.expect.Storage,
				c.expect.Miner)
		}
		if s := status.Storages[0]; s.Live && s.State == "valid" && status.Miners[0].Live {
			return status
		}
		select {
		case <-ctx.Done():
			c.t.Fatalf("the workers do not come back: %+v", status)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// checkAll checks all records, and the permissions of each token.
func (c *oldCluster) checkAll() {
	c.t.Helper()
	for _, want := range c.expect.Records {
		c.checkRecord(want, c.expect.Projects[want.Project].Token)
	}
	for _, r := range c.expect.Records {
		path := fmt.Sprintf("/v1/blocks/%d/records/%d", r.Block, r.Offset)
		if r.Project == "private-one" {
			c.checkRecord(r, c.expect.Reader)
			if status, answer := c.call(http.MethodGet, path, c.expect.Revoked,
				nil); status != http.StatusUnauthorized {
				c.t.Errorf("a revoked token: %d, %s", status, answer)
			}
			break
		}
	}
	if status, answer := c.call(http.MethodPost, "/v1/records", c.expect.Reader,
		[]byte("no")); status != http.StatusForbidden {
		c.t.Errorf("an append with a token that may only read: %d, %s", status, answer)
	}
	var project struct {
		Quota struct {
			RecordBytes uint64 `json:"record_bytes"`
		} `json:"quota"`
	}
	c.get("/v1/projects/private-one", c.expect.AdminToken, &project)
	if project.Quota.RecordBytes != c.expect.Quota {
		c.t.Errorf("the quota is %d bytes a record, want %d", project.Quota.RecordBytes, c.expect.Quota)
	}
	keyed := 0
	for _, r := range c.expect.Records {
		if r.Project == "private-one" && r.Key == "key-1" {
			keyed++
		}
	}
	var list struct {
		Records []json.RawMessage `json:"records"`
	}
	c.get("/v1/records?project=private-one&key=key-1&limit=100", c.expect.Projects["private-one"].Token, &list)
	if len(list.Records) != keyed {
		c.t.Errorf("%d records are listed under a key, want %d", len(list.Records), keyed)
	}
}

// fences returns the fence of each worker's folder.
func (c *oldCluster) fences() (list []wire.Order) {
	c.t.Helper()
	for _, role := range []string{"storage", "miner"} {
		f, err := worker.OpenFence(filepath.Join(c.dir, role))
		if err != nil {
			c.t.Fatal(err)
		}
		highest, _ := f.Highest()
		list = append(list, highest)
	}
	return list
}

func (c *oldCluster) identities() (list []worker.Identity) {
	c.t.Helper()
	for _, role := range []string{"storage", "miner"} {
		id, err := worker.ReadIdentity(filepath.Join(c.dir, role))
		if err != nil || id.ID == "" {
			c.t.Fatalf("the identity of the %s: %+v, %v", role, id, err)
		}
		list = append(list, id)
	}
	return list
}

// verify checks the storage node's chain while the node is stopped.
func (c *oldCluster) verify(height uint64) {
	c.t.Helper()
	summary, err := audit.Verify(c.t.Context(), filepath.Join(c.dir, "storage"), nil)
	if err != nil || summary.Height != height {
		c.t.Fatalf("the chain of the storage node: %+v, %v, want height %d", summary, err, height)
	}
}

// TestFoldersOfEarlierVersions checks that data folders of earlier versions can be opened, contain all acknowledged
// data, keep their identities, and work.
func TestFoldersOfEarlierVersions(t *testing.T) {
	for _, commit := range []string{"b74b8ae", "9835faf", "9f51871"} {
		t.Run(commit, func(t *testing.T) {
			t.Parallel()
			c := unpackCluster(t, commit)
			c.verify(c.expect.Head.Height)
			fences, identities := c.fences(), c.identities()
			for _, f := range fences {
				if f.Epoch != 1 || f.Term == 0 {
					t.Errorf("the fence stands at %+v", f)
				}
			}
			c.run(func() {
				status := c.awaitWorkers()
				// The rise of the level is in the audit trail, in a block of its own.
				if status.Leader != c.expect.Leader || status.Head.Height < c.expect.Head.Height {
					t.Errorf("leader %s, head %+v, want %s, %+v", status.Leader, status.Head, c.expect.Leader,
						c.expect.Head)
				}
				c.checkAll()
				c.append("private-one", "appended by the current version")
				c.append("public-one", "and in public")
				c.checkAll()
			})
			for i, now := range c.fences() {
				if !fences[i].Less(now) {
					t.Errorf("the fence went from %+v to %+v: a new term of the same epoch was due", fences[i], now)
				}
			}
			for i, now := range c.identities() {
				want := identities[i]
				want.Proofs = true // the group has the present protocol level
				if now.Proofs = true; now != want {
					t.Errorf("the identity went from %s to %s", identities[i].ID, now.ID)
				}
			}
			c.verify(c.expect.Records[len(c.expect.Records)-1].Block + 1)
			c.run(func() {
				c.awaitWorkers()
				c.checkAll()
				c.append("private-one", "after a restart")
			})
		})
	}
}
