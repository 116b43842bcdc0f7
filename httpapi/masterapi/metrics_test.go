package masterapi_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/chainstore/chainstore/wire"
)

// metrics returns the metrics without labels of master i.
func (c *cluster) metrics(i int) map[string]float64 {
	c.t.Helper()
	_, text := c.do(i, request{name: "metrics", method: "GET", path: "/metrics", status: 200})
	found := map[string]float64{}
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		name, text, _ := strings.Cut(lines.Text(), " ")
		if value, err := strconv.ParseFloat(text, 64); err == nil {
			found[strings.TrimPrefix(name, "chainstore_")] = value
		}
	}
	return found
}

// TestMetricsAgreeWithRequests checks that the histograms of all masters together have what clients have asked for, and
// that every master shows its position in raft's log.
func TestMetricsAgreeWithRequests(t *testing.T) {
	c := startCluster(t)
	masters := len(c.file.Masters)
	own := c.file.Tokens.Project
	sum := func() (total map[string]float64, term float64) {
		total = map[string]float64{}
		for i := range masters {
			found := c.metrics(i)
			for name, value := range found {
				total[name] += value
			}
			term = max(term, found["term"])
		}
		return total, term
	}
	before, termBefore := sum()
	const singles, batches, perBatch, reads = 12, 3, 50, 9
	for i := range singles {
		c.do(i, request{name: "append", method: "POST", path: "/v1/records", token: own, body: "x", status: 201})
	}
	var last wire.Position
	for i := range batches {
		_, answer := c.do(i, request{name: "batch", method: "POST", path: "/v1/records:batch", token: own, status: 201,
			body: strings.Repeat(`{"text":"of a batch"}`+"\n", perBatch)})
		var positions wire.Positions
		if err := json.Unmarshal(answer, &positions); err != nil {
			t.Fatal(err)
		}
		last = positions.Records[0]
	}
	c.do(0, request{name: "too large", method: "POST", path: "/v1/records", token: own, status: 400,
		problem: "empty-body"})
	for i := range reads {
		c.do(i, request{name: "read", method: "GET", token: own, status: 200,
			path: fmt.Sprintf("/v1/blocks/%d/records/%d", last.Block, last.Offset)})
	}
	c.do(1, request{name: "no record", method: "GET", token: own, status: 404, problem: "not-found",
		path: "/v1/records/1000000"})
	after, term := sum()
	delta := func(name string) float64 { return after[name] - before[name] }
	if got := delta("append_seconds_count"); got != singles+batches {
		t.Errorf("%v appends are counted, not %d", got, singles+batches)
	}
	if got := delta("read_seconds_count"); got != reads {
		t.Errorf("%v reads are counted, not %d", got, reads)
	}
	if got, commits := delta("records_per_commit_count"), delta("commit_seconds_count"); got != commits || got == 0 {
		t.Errorf("%v commits are counted, and %v numbers of records", commits, got)
	}
	const records = singles + batches*perBatch
	// A leader that was deposed does not know what became of its last commits.
	if got := delta("records_per_commit_sum"); got > records || term == termBefore && got != records {
		t.Errorf("commits added %v records, not %d; terms %v to %v", got, records, termBefore, term)
	}
	if got := delta("forward_seconds_count"); term == termBefore && (got == 0 || got > singles+batches) {
		t.Errorf("%v submissions were forwarded", got)
	}
	for i := range masters {
		found := c.metrics(i)
		for _, name := range []string{"fsync_seconds_count", "apply_seconds_count", "raft_applied_index"} {
			if found[name] <= 0 {
				t.Errorf("master %d: %s is %v", i, name, found[name])
			}
		}
		if found["raft_commit_index"] < found["raft_applied_index"] {
			t.Errorf("master %d: committed %v, applied %v", i, found["raft_commit_index"], found["raft_applied_index"])
		}
		if silence, ok := found["raft_last_contact_seconds"]; !ok || silence < 0 || silence > 60 {
			t.Errorf("master %d: last contact %v s ago (present: %v)", i, silence, ok)
		}
		for _, name := range []string{"appends", "append_bytes", "submissions", "submission_bytes", "confirmations"} {
			if value, ok := found["queued_"+name]; !ok || value != 0 {
				t.Errorf("master %d: queued_%s is %v (present: %v), and no request is in progress", i, name, value, ok)
			}
		}
	}
}
