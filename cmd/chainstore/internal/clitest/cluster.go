// Package clitest has the fake cluster and the helpers of the tests of the commands.
package clitest

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/internal/fakecluster"
	"github.com/chainstore/chainstore/internal/signedlog"
	"github.com/chainstore/chainstore/wire"
)

// Tokens and the time of the fake cluster, unix milliseconds.
const (
	ProjectToken = fakecluster.ProjectToken
	AdminToken   = fakecluster.AdminToken
	Time         = 1_700_000_000_000

	// TextType is the type of the records of [NewLog].
	TextType = "text/plain; charset=utf-8"
)

// Cluster is a cluster in memory at a fixed time, with one master and canned answers about its state.
type Cluster struct {
	*fakecluster.Cluster
	URL string
}

// NewCluster starts the fake cluster.
func NewCluster(t testing.TB) *Cluster {
	f := &Cluster{Cluster: fakecluster.New()}
	f.Now = func() uint64 { return Time }
	f.PageSize, f.ClosedRegistration = 1, true
	f.Projects[0].Created, f.Projects[0].Records = Time, 12
	for _, b := range NewLog(3).Blocks {
		f.Blocks = append(f.Blocks, wire.NewBlock(b.Header))
	}
	status := SampleStatus()
	f.Status, f.Integrity, f.TLog, f.Note = &status, SampleIntegrity(), SampleLog(), fakeNote
	f.CheckSteps("s-aaaabbbbcccc")
	f.CheckSteps("s-ddddeeeeffff")
	f.URL = f.Serve(func(h http.Handler) http.Handler { return h })
	t.Cleanup(func() {
		for _, failure := range f.Close() {
			t.Error(failure)
		}
	})
	return f
}

// Use makes the fake the cluster that the environment names.
func (f *Cluster) Use(t *testing.T) {
	t.Helper()
	t.Chdir(t.TempDir())
	t.Setenv("CHAINSTORE_MASTERS", f.URL)
	t.Setenv("CHAINSTORE_TOKEN", ProjectToken)
	t.Setenv("CHAINSTORE_ADMIN_TOKEN", AdminToken)
	t.Setenv("TZ", "UTC")
}

// Payloads returns what was appended, in order.
func (f *Cluster) Payloads() (all []string) {
	f.Change(func() {
		for i := range f.Records {
			all = append(all, string(f.Records[i].Payload))
		}
	})
	return all
}

// InternalError answers a request.
func InternalError(w http.ResponseWriter) bool {
	fakecluster.Problem(w, wire.ErrInternal)
	return true
}

// SampleStatus is the status of a healthy cluster.
func SampleStatus() wire.Cluster {
	hash := chain.Hash{0x00, 0x00, 0xab, 0xcd, 0xef}
	return wire.Cluster{
		Group: "cs-group", Epoch: 1, Leader: "aaaabbbbccccdddd", Term: 7,
		Head:   wire.Head{Height: 12, Hash: hash, Size: 34579},
		Stored: 11, Replicas: 2, Checkpoint: wire.Checkpoints{Height: 11, Size: 32001, PublishedSize: 31744},
		Masters: []wire.Master{
			{ID: "aaaabbbbccccdddd", URL: "http://127.0.0.1:8000", Raft: "127.0.0.1:8010", State: "leader",
				Voter: true},
			{ID: "eeeeffffgggghhhh", URL: "http://127.0.0.1:8001", Raft: "127.0.0.1:8011", State: "follower",
				Voter: true},
			{ID: "iiiijjjjkkkkllll", Raft: "127.0.0.1:8012", State: "unreachable", Voter: true},
		},
		Storages: []wire.Storage{
			{ID: "s-aaaabbbbcccc", URL: "http://127.0.0.1:8082", State: "valid", Height: 12, Live: true},
			{ID: "s-ddddeeeeffff", URL: "http://127.0.0.1:8083", State: "invalid", Height: 3, Cause: "behind"},
		},
		Miners:  []wire.Miner{{ID: "m-aaaabbbbcccc", URL: "http://127.0.0.1:8079", Live: true}},
		Buffer:  wire.Amount{Records: 1, Bytes: 300},
		Pending: wire.Pending{Blocks: 1, Bytes: 5 << 20},
		Keys:    wire.Keys{Remembered: 1200, Seconds: 598.7},
		Notices: []string{"storage node s-ddddeeeeffff is invalid: behind what the masters hold, it is repaired " +
			"from another node"},
	}
}

// fakeNote is a checkpoint: no test verifies it.
const fakeNote = `example.com/fake
12
CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

— example.com/fake 3q2+7wAAAAA=
`

// SampleLog describes a log with two witnesses, one of which does not answer.
func SampleLog() *wire.Log {
	size := uint64(12)
	return &wire.Log{Origin: "example.com/fake", Size: &size, Keys: []wire.LogKey{
		{ID: "deadbeef", VerifierKey: "example.com/fake+deadbeef+AQAA", Since: Time},
	}, Quorum: 1, Witnesses: []wire.Witness{
		{Name: "witness.example/w1", VerifierKey: "witness.example/w1+deadbeef+BAAA", URL: "https://witness.example/w1",
			Size: size, Last: Time, State: wire.WitnessOK},
		{Name: "witness.example/w2", VerifierKey: "witness.example/w2+0badcafe+BAAB", URL: "https://witness.example/w2",
			State: wire.WitnessDown, Error: "no answer", Failures: 7},
	}}
}

// NewLog returns a log of blocks of four records each.
func NewLog(blocks int) *signedlog.Log {
	l := signedlog.New("chainstore/fake", 7)
	for n := range blocks {
		var records []chain.Record
		at := uint64(Time + 1000*n)
		for i := range fakecluster.BlockRecords {
			records = append(records, chain.Record{
				Project: 1, Time: at, Salt: [16]byte{byte(n), byte(i)}, Type: TextType,
				Payload: fmt.Appendf(nil, "record %d of block %d", i, n),
			})
		}
		l.Mine(at, records...)
	}
	return l
}

// MustFail checks that an error has a part of a text, and no token.
func MustFail(t *testing.T, err error, part string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error; want one with %q", part)
	}
	if !strings.Contains(err.Error(), part) {
		t.Fatalf("error %q; want one with %q", err, part)
	}
	for _, token := range []string{ProjectToken, AdminToken} {
		if strings.Contains(err.Error(), token) {
			t.Fatalf("error %q holds a token", err)
		}
	}
}

// WriteFile writes a file into a new folder and returns its path.
func WriteFile(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
