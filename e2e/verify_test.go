package e2e

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/client"
	"github.com/chainstore/chainstore/storagenode/audit"
	"github.com/chainstore/chainstore/storagenode/segment"
	"github.com/chainstore/chainstore/verify"
	"github.com/chainstore/chainstore/wire/trail"
)

// mostReadBack is the approximate number of records that are read back through each master. The verifier checks all
// records in the segments as well.
const mostReadBack = 50_000

// readsAtOnce is the number of concurrent reads of the verifier from each master.
const readsAtOnce = 8

// failed reports whether there is a fault.
func (o *oracle) failed() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.faults) > 0
}

// report fails the test with the recorded faults.
func (o *oracle) report(t *testing.T) {
	t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, f := range o.faults {
		t.Error(f)
	}
}

// verify runs the full verifier and ends the cluster: see the package documentation. extra lists the data folders of
// storage nodes that are not in the topology.
func (c *cluster) verify(o *oracle, extra ...string) {
	c.t.Helper()
	defer o.report(c.t)
	folders := extra
	for _, s := range c.File().Storages {
		folders = append(folders, s.Data)
	}
	status := c.awaitSettled(len(folders))
	c.checkServed(o)
	records, byProject := c.countedRecords()
	for before := uint64(0); before != records; { // masters may still record acts, such as that one has come back
		before, status = records, c.awaitSettled(len(folders))
		records, byProject = c.countedRecords()
	}
	c.stop()
	for _, dir := range folders {
		found, err := audit.Verify(c.t.Context(), dir, nil)
		if err != nil {
			c.t.Errorf("verify %s: %v", dir, err)
			continue
		}
		if found.Height != status.Head.Height || found.Hash != status.Head.Hash || found.Size != status.Head.Size ||
			found.Torn != 0 {
			c.t.Errorf("verify %s: %+v; the cluster's head was %+v", dir, found, status.Head)
		}
	}
	c.checkStored(o, folders[0])
	if uint64(o.chained) != records || records != byProject {
		c.t.Errorf("the chain has %d records, the status counts %d, the projects count %d", o.chained, records,
			byProject)
	}
	c.checkLogs(folders)
	c.t.Logf("%d records acknowledged, %d unknown, %d appends repeated, %d blocks", len(o.order), len(o.unknown),
		len(o.repeats), status.Head.Height)
}

// checkServed compares the records that the cluster serves with the oracle, and the masters with each other.
func (c *cluster) checkServed(o *oracle) {
	c.t.Helper()
	o.checkRepeats()
	c.readBack(o, 1+o.count()/mostReadBack)
	c.compareStates(o)
	c.checkTotals(o)
	c.auditOutside(o)
}

// auditOutside audits the log with nothing but a master's address, the log's keys and a token. It checks every leaf,
// every block's link and proof of work, the tree, its signature, and every payload.
func (c *cluster) auditOutside(o *oracle) {
	c.t.Helper()
	trust, err := verify.NewTrust(c.knownLog().keys, nil, 0)
	if err != nil {
		c.t.Fatal(err)
	}
	report, err := verify.Log(c.t.Context(), verify.Options{
		URL: c.File().Masters[0], Trust: trust, Token: c.projectToken(), HTTP: c.Topology().HTTP,
	})
	switch {
	case err != nil:
		o.fault("the log could not be audited to its end: %v", err)
	case !report.Good():
		o.fault("the audit of the log: %v", report.Findings)
	case len(report.Unchecked) == 0 && report.Payloads+report.Hidden < uint64(o.count()):
		o.fault("the audit of the log saw %d payloads and %d of others; %d records are acknowledged", report.Payloads,
			report.Hidden, o.count())
	}
}

// checkStored compares the chain on a storage node with the oracle, and then checks the history with the model.
func (c *cluster) checkStored(o *oracle, folder string) {
	c.t.Helper()
	c.scan(o, folder)
	c.checkCheckpoints(o, folder)
	o.checkHistory(c.t)
}

// sample is the sampling of readBack within a test: one record in so many.
const sample = 4

// readBack reads all acknowledged records through every master, or one in oneIn.
func (c *cluster) readBack(o *oracle, oneIn int) {
	c.t.Helper()
	records := o.all()
	var reading errgroup.Group
	for i, m := range c.masters {
		for part := range readsAtOnce {
			reading.Go(func() error {
				for j := part * oneIn; j < len(records); j += readsAtOnce * oneIn {
					if o.enough() {
						return nil
					}
					o.compare(c, m, records[j], fmt.Sprintf("master-%d", i+1))
				}
				return nil
			})
		}
	}
	_ = reading.Wait() // the oracle records the faults
}

func (o *oracle) compare(c *cluster, m *client.Client, r *ackedRecord, through string) {
	ctx := c.t.Context()
	got, err := m.Get(ctx, r.at.Block, r.at.Offset)
	if err != nil {
		o.fault("through %s: read %v: %v", through, r, err)
		return
	}
	if d := r.differs(got); d != "" {
		o.fault("through %s: %v: %s", through, r, d)
	}
	if r.at.Index%16 != 0 {
		return
	}
	if got, err = m.GetIndex(ctx, r.at.Index); err != nil {
		o.fault("through %s: read by index %v: %v", through, r, err)
	} else if d := r.differs(got); d != "" {
		o.fault("through %s, by index: %v: %s", through, r, d)
	}
}

// enough reports whether there are so many faults that more would not help.
func (o *oracle) enough() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.faults) >= maxFaults
}

// scan reads the segments of a storage node without the node's code, and compares every record with the oracle. Every
// acknowledged record must be at its place. Other records must be of the audit trail, or those of unknown outcome, each
// at most once.
func (c *cluster) scan(o *oracle, dir string) {
	c.t.Helper()
	firsts, err := segment.List(filepath.Join(dir, "segments"))
	if err != nil {
		c.t.Fatal(err)
	}
	unknown := map[string]int{}
	for _, e := range o.unknown {
		unknown[string(e.Payload)]++
	}
	seen := 0
	o.chained = 0
	for _, first := range firsts {
		err := eachBlock(filepath.Join(dir, "segments", segment.Name(first)), func(b *chain.Block) error {
			for offset := range b.Header.Count {
				record, err := b.Record(offset)
				if err != nil {
					return err
				}
				o.chained++
				where := place{b.Header.Block, offset}
				if record.Project == trail.ProjectID {
					if _, err := trail.Parse(record.Payload); err != nil || record.Type != trail.Type {
						o.fault("block %d, offset %d is no record of the audit trail: type %q, %v", where.block,
							where.offset, record.Type, err)
					}
					continue
				}
				inFlood := o.flood.found(o, &record)
				if r := o.acked[where]; r != nil {
					seen++
					leaf := record.Leaf()
					if sha256.Sum256(record.Payload) != r.sum || record.Key != r.key || leaf.Hash() != r.at.Leaf ||
						record.Time != r.at.Time || b.Header.First+uint64(offset) != r.at.Index {
						o.fault("in the chain %v is another record: key %q, %.80q", r, record.Key, record.Payload)
					}
					continue
				}
				if inFlood {
					continue
				}
				o.resolve(record.Payload, where)
				if unknown[string(record.Payload)]--; unknown[string(record.Payload)] < 0 {
					o.fault("block %d, offset %d was not acknowledged to any client: key %q, %.80q",
						where.block, where.offset,
						record.Key, record.Payload)
				}
			}
			return nil
		})
		if err != nil {
			c.t.Fatal(err)
		}
	}
	o.flood.check(o)
	if seen != len(o.order) {
		o.fault("%d records are acknowledged, the chain has %d of them", len(o.order), seen)
	}
}

// eachBlock calls f with each block of a segment.
func eachBlock(path string, f func(*chain.Block) error) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }() // read only
	info, err := file.Stat()
	if err != nil {
		return err
	}
	for frames := segment.NewFrames(file, segment.HeaderSize, info.Size()); frames.Offset() < info.Size(); {
		frame, err := frames.Next()
		if err == nil {
			err = frame.Err
		}
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		block, err := chain.ParseBlock(frame.Block)
		if err == nil {
			err = f(&block)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	return nil
}

// tokenLine matches the tokens of a cluster.json, among other strings.
var tokenLine = regexp.MustCompile(`"(?:admin|project|cluster|master_token|access_token)": "([^"]+)"`)

// tokens returns all tokens of the cluster and of its workers.
func (c *cluster) tokens(folders []string) []string {
	c.t.Helper()
	files := []string{filepath.Join(c.dir, "cluster.json")}
	for _, name := range c.names("miner") {
		files = append(files, filepath.Join(c.dir, name, "identity.json"))
	}
	for _, dir := range folders {
		files = append(files, filepath.Join(dir, "identity.json"))
	}
	var tokens []string
	for i, path := range files {
		data, err := os.ReadFile(path)
		if err != nil {
			c.t.Fatal(err)
		}
		found := tokenLine.FindAllStringSubmatch(string(data), -1)
		if due := 3 - min(i, 1); len(found) != due { // three of the cluster, two of a worker
			c.t.Fatalf("%s holds %d tokens, not %d", path, len(found), due)
		}
		for _, f := range found {
			tokens = append(tokens, f[1])
		}
	}
	return tokens
}

// checkLogs fails the test if a log contains a token or a panic. It also fails if a log reports a storage node's
// response that failed verification, unless the test has damaged a node.
func (c *cluster) checkLogs(folders []string) {
	c.t.Helper()
	tokens := c.tokens(folders)
	for _, path := range c.logs() {
		data, err := os.ReadFile(path)
		if err != nil {
			c.t.Fatal(err)
		}
		text := string(data)
		for _, token := range tokens {
			if strings.Contains(text, token) {
				c.t.Errorf("%s holds a token", path)
			}
		}
		unheard := []string{"panic:", "fatal error:"}
		if !c.expectDamage {
			unheard = append(unheard, "cannot prove", "storage node is invalid", "damage found")
		}
		for _, bad := range unheard {
			if at := strings.Index(text, bad); at >= 0 {
				c.t.Errorf("%s: %s", path, text[at:min(len(text), at+2000)])
			}
		}
	}
}
