package e2e

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// fieldReport is a fault that users of another system have reported, and that could equally be one of this program.
// The kind of the fault counts, not the one input.
type fieldReport struct {
	number int    // of the report in our survey; the numbers have gaps
	source string // the report, or the first of several
	input  string // what the test does
	result string // what must happen
	// run is the test. Its cluster is shared by all rows: a row that harms it must restore it.
	run func(t *testing.T, c *cluster)
	// elsewhere is the test that covers the report instead, as "folder TestName": it needs other preparations.
	elsewhere string
}

// fieldReports are the reports whose faults this program must not have. docs/faults.md lists those that are not covered
// yet.
var fieldReports = []fieldReport{
	{1, "etcd-io/etcd#13766", "a check of a storage node that cannot open files",
		"the command fails, the check is not counted and stays due", checkWithoutFiles, ""},
	{2, "palantir/atlasdb#3425", "the clocks of masters jump by years, and back",
		"checks, cuts, quotas and keys continue", nil, "e2e TestClockJumps"},
	{3, "kubernetes/kubernetes#48792", "administration through a follower, with HTTP_PROXY set",
		"no call between nodes reaches the proxy", nil, "httpapi/masterapi TestForwardUsesNoProxy"},
	{4, "canonical/go-dqlite#175", "256 miners that never come back, and one more", "it takes the place of a dead one",
		nil, "masterfsm TestDeadMinersMakeRoom"},
	{5, "getsentry/objectstore#581", "keys of Chinese and of accented letters, in a batch",
		"JSON returns the exact keys", keysOutsideLatin1, ""},
	{7, "durable-streams/durable-streams#111", "a gzip body with Content-Encoding, as a record and as a batch",
		"415, and nothing is appended", compressedBodies, ""},
	{8, "elastic/elasticsearch#95930", "records are read from a storage node that cannot open files",
		"503, and the node is not suspect", readWithoutFiles, ""},
	{9, "hashicorp/consul#22625", "requests without a token that never send their body",
		"401 at once, and the connection ends", bodiesThatNeverCome, ""},
	{10, "rethinkdb/rethinkdb#404", "a storage node with another cluster token, and one with an address without master",
		"a warning names the reason, and /readyz is 503", workersThatCannotRegister, ""},
	{11, "apollographql/router#3233", "a master is stopped while an append waits until it is stored",
		"the append is answered with its position", stopWhileAnAppendWaits, ""},
	{12, "gaul/s3proxy#271", "keys and types with control characters", "400, and nothing is appended",
		controlCharacters, ""},
	{14, "memgraph/memgraph#1369", "10,000 silent connections to masters that may open 4,096 files",
		"appends and an election go on", nil, "e2e TestSilentConnections"},
	{15, "nats-io/nats-server#1233", "a reader that takes 1 kB of a stream each second", "it is not cut off", nil,
		"httpapi TestSlowReader"},
	{16, "apache/bookkeeper#3141", "the disk of a storage node is full, and then has room again",
		"it serves what it has, and takes blocks again", nil, "storagenode TestFullDisk"},
	{17, "nginx/nginx#1505", "a stream of records", "its header asks proxies not to buffer", streamHeader, ""},
	{19, "ArcadeData/arcadedb#8133", "HEAD of the health routes, on every role", "as GET without a body", headOfHealth,
		""},
	{23, "rqlite/rqlite#982", "the first of three masters is started alone",
		"/livez is 200 and /readyz is 503: a StatefulSet can start the others", oneMasterAlone, ""},
	{25, "rwf2/Rocket#2783", "a body of 50 MB, and one that is announced with Expect: 100-continue",
		"413 arrives, without 100 Continue", bodiesOverTheLimit, ""},
	{26, "hashicorp/consul#2868", "three masters with lists of peers in different orders", "they found one group",
		peersInAnotherOrder, ""},
	{32, "grafana/loki#23514", "a process in a container with a memory limit", "the heap stays below it", nil,
		"cmd/chainstore TestMemoryLimitOfTheContainer"},
	{33, "transparency-dev/tessera#799", "witnesses that lose their state, or name wrong sizes",
		"they cosign again", nil, "masternode TestWitnessSimulation"},
	{34, "rqlite/rqlite#937", "two of three masters hang", "the third is not ready, and refuses reads after 5 s",
		readyWithoutALeader, ""},
	{35, "rqlite/rqlite#1293", "all masters come back with other addresses", "a leader, and nothing is lost", nil,
		"e2e TestAllMastersMove"},
}

// TestFieldReports runs all rows, one after the other, on one cluster. At the end the cluster must have made progress,
// and nothing that was acknowledged may be lost.
func TestFieldReports(t *testing.T) {
	checkRows(t)
	c, o := startWithSegments(t)
	for _, row := range fieldReports {
		if row.run == nil {
			continue
		}
		t.Run(row.name(), func(t *testing.T) {
			t.Logf("%s: %s", row.input, row.result)
			part := *c
			part.t = t
			row.run(t, &part)
			part.awaitAllReady()
		})
	}
	c.readBack(o, sample)
	o.report(t)
}

// name is the name of the subtest: number and source.
func (r *fieldReport) name() string {
	return strings.NewReplacer("/", "-", "#", "-").Replace(r.source)
}

// TestFieldReportRows checks the table itself: every row has a test, and a test elsewhere exists.
func TestFieldReportRows(t *testing.T) { checkRows(t) }

func checkRows(t *testing.T) {
	t.Helper()
	source, last := regexp.MustCompile(`^[\w.-]+/[\w.-]+#\d+$`), 0
	for _, row := range fieldReports {
		if row.number <= last || !source.MatchString(row.source) || row.input == "" || row.result == "" ||
			(row.run == nil) == (row.elsewhere == "") {
			t.Errorf("the row is not complete, or not in order: %+v", row)
		}
		last = row.number
		if row.elsewhere == "" {
			continue
		}
		folder, name, _ := strings.Cut(row.elsewhere, " ")
		files, err := filepath.Glob(filepath.Join("..", folder, "*_test.go"))
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for _, path := range files {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			found = found || strings.Contains(string(text), "\nfunc "+name+"(t *testing.T)")
		}
		if !found {
			t.Errorf("report %d: there is no test %s", row.number, row.elsewhere)
		}
	}
}
