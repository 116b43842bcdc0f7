package raftstore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"net"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/raftstore/raftconfig"
	"github.com/chainstore/chainstore/raftstore/transport"
	"github.com/chainstore/chainstore/wire"
)

// The first byte of raft's requests.
const (
	sendEntries  = 0
	sendSnapshot = 2
)

// hostile is a member that knows the cluster token and leads, and a follower of it.
type hostile struct {
	*transport.Stream
	t     *testing.T
	trans *raft.NetworkTransport
	to    *node
	last  uint64 // index of the newest entry
	term  uint64

	lastTerm uint64 // of the newest entry
}

const hostileTerm = 5

// newHostile founds the group: the follower has the projects p1 and p2 from it.
func newHostile(t *testing.T) *hostile {
	t.Helper()
	h := &hostile{t: t, term: hostileTerm, to: openNode(t, testConfig(t, filepath.Join(t.TempDir(), "follower")))}
	listener, advertise, err := transport.Listen("127.0.0.1:0", "")
	if err != nil {
		t.Fatal(err)
	}
	key, err := transport.NewKey(testToken)
	if err != nil {
		t.Fatal(err)
	}
	starts, err := transport.OpenStarts(filepath.Join(t.TempDir(), "starts"), false)
	if err != nil {
		t.Fatal(err)
	}
	h.Stream = transport.New(transport.Config{
		Listener: listener, Self: "hostile", Advertise: advertise, Starts: starts,
		Keys:      func() []transport.Key { return []transport.Key{key} },
		Level:     func() uint64 { return masterfsm.ProtocolLevel },
		AddressOf: func(string) string { return "" }, Addresses: func() []string { return nil },
		Term: func() (uint64, bool) { return hostileTerm, true }, Stale: func(err error) { t.Error(err) },
		Failed:       func(err error) { t.Error(err) },
		FailedSyncOf: func(string) (none transport.KernelDigest) { return none },
		MustStop:     func(transport.KernelDigest) bool { return false }, Log: hclog.NewNullLogger(),
	})
	h.Open("group-1#1")
	if err := h.to.Adopt(wire.Adoption{Group: "group-1", Epoch: 1, Member: h.to.Member().ID}); err != nil {
		t.Fatal(err)
	}
	config := raftconfig.Transport(hclog.NewNullLogger())
	config.Stream = h.Stream
	h.trans = raft.NewNetworkTransportWithConfig(config)
	t.Cleanup(func() {
		if err := h.trans.Close(); err != nil {
			t.Error(err)
		}
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	h.send(raft.Log{Type: raft.LogConfiguration, Data: h.members()})
	h.send(raft.Log{Data: masterfsm.Encode(&masterfsm.BeginTerm{Term: hostileTerm, Member: "hostile", Group: "group-1",
		Time: 1000, Settings: masterfsm.DefaultSettings()})})
	h.send(raft.Log{Data: project("p1")})
	h.send(raft.Log{Data: project("p2")})
	return h
}

func (h *hostile) address() raft.ServerAddress {
	return transport.ServerAddress(h.to.Member().ID, h.to.Member().Raft)
}

func (h *hostile) members() []byte {
	return raft.EncodeConfiguration(raft.Configuration{Servers: []raft.Server{
		{Suffrage: raft.Voter, ID: "hostile", Address: raft.ServerAddress(h.Addr().String())},
		{Suffrage: raft.Nonvoter, ID: raft.ServerID(h.to.Member().ID), Address: h.address()},
	}})
}

func (h *hostile) header() raft.RPCHeader {
	return raft.RPCHeader{
		ProtocolVersion: raft.ProtocolVersionMax, ID: []byte("hostile"), Addr: []byte(h.Addr().String()),
	}
}

// entries returns a request with the entries, which follow the newest.
func (h *hostile) entries(logs ...*raft.Log) *raft.AppendEntriesRequest {
	for i, l := range logs {
		if l != nil {
			l.Index, l.Term = h.last+1+uint64(i), h.term
		}
	}
	return &raft.AppendEntriesRequest{
		RPCHeader: h.header(), Term: h.term, PrevLogEntry: h.last, PrevLogTerm: h.lastTerm, Entries: logs,
		LeaderCommitIndex: h.last + uint64(len(logs)),
	}
}

// call makes a call of raft. It makes it again, as raft does, if the follower closed the connection: to end an unwanted
// snapshot, the follower closes all connections on which a request has begun.
func (h *hostile) call(do func() error) (err error) {
	for range 10 {
		err = do()
		if !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
			break
		}
	}
	return err
}

// send appends an entry, as a correct leader does.
func (h *hostile) send(l raft.Log) {
	h.t.Helper()
	var answer raft.AppendEntriesResponse
	err := h.call(func() error {
		return h.trans.AppendEntries(raft.ServerID(h.to.Member().ID), h.address(), h.entries(&l), &answer)
	})
	if err != nil || !answer.Success {
		h.t.Fatalf("a good entry is refused: %+v, %v", answer, err)
	}
	h.last, h.lastTerm = h.last+1, h.term
	if err := h.to.WaitApplied(patience(h.t), h.last); err != nil && l.Type == raft.LogCommand {
		h.t.Fatal(err)
	}
}

// snapshot returns the request for a snapshot of the follower's state with one more project, and its content.
func (h *hostile) snapshot(group string) (*raft.InstallSnapshotRequest, []byte) {
	state := masterfsm.New()
	for _, command := range [][]byte{
		masterfsm.Encode(&masterfsm.BeginTerm{Term: hostileTerm, Member: "hostile", Group: group, Time: 1000,
			Settings: masterfsm.DefaultSettings()}),
		project("p1"), project("p2"), project("p3"),
	} {
		if _, err := state.Apply(command); err != nil {
			h.t.Fatal(err)
		}
	}
	var content bytes.Buffer
	if err := state.Snapshot().Write(&content); err != nil {
		h.t.Fatal(err)
	}
	return &raft.InstallSnapshotRequest{
		RPCHeader: h.header(), SnapshotVersion: 1, Term: h.term, LastLogIndex: h.last + 10,
		LastLogTerm: h.term, Configuration: h.members(), ConfigurationIndex: 1, Size: int64(content.Len()),
	}, content.Bytes()
}

// recorder is a stream layer that keeps what is sent, and never answers.
type recorder struct {
	net.Conn
	sent bytes.Buffer
}

func (r *recorder) Dial(raft.ServerAddress, time.Duration) (net.Conn, error) { return r, nil }
func (r *recorder) Accept() (net.Conn, error)                                { return nil, net.ErrClosed }
func (r *recorder) Addr() net.Addr                                           { return nil }
func (r *recorder) Write(b []byte) (int, error)                              { return r.sent.Write(b) }
func (r *recorder) Read([]byte) (int, error)                                 { return 0, io.EOF }
func (r *recorder) Close() error                                             { return nil }
func (r *recorder) SetDeadline(time.Time) error                              { return nil }

// encode returns the bytes of a request.
func (h *hostile) encode(request any) []byte {
	var r recorder
	trans := raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{Stream: &r, MaxPool: 1,
		Logger: hclog.NewNullLogger()})
	var err error
	switch m := request.(type) {
	case *raft.AppendEntriesRequest:
		err = trans.AppendEntries("", "", m, &raft.AppendEntriesResponse{})
	case *raft.RequestVoteRequest:
		err = trans.RequestVote("", "", m, &raft.RequestVoteResponse{})
	case *raft.InstallSnapshotRequest:
		err = trans.InstallSnapshot("", "", m, &raft.InstallSnapshotResponse{}, bytes.NewReader(nil))
	}
	if closeErr := trans.Close(); !errors.Is(err, io.EOF) || closeErr != nil {
		h.t.Fatal(err, closeErr)
	}
	return r.sent.Bytes()
}

// endless is n zeros.
func endless(n int64) io.Reader { return io.LimitReader(zeros{}, n) }

type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

// condition describes what hostile requests must not change.
func (h *hostile) condition() string {
	first, last, err := h.to.logs.bounds()
	if err != nil {
		h.t.Fatal(err)
	}
	list, err := h.to.snaps.List()
	if err != nil {
		h.t.Fatal(err)
	}
	term := h.to.raft.Load().CurrentTerm() - h.term
	vote, _ := h.to.votes.Get([]byte(keyVoteCandidate))
	var logs []string
	for i := first; i <= last && i > 0; i++ {
		var l raft.Log
		if err := h.to.logs.GetLog(i, &l); err != nil {
			h.t.Fatal(err)
		}
		logs = append(logs, fmt.Sprintf("%d/%d/%x", l.Index, l.Term, l.Extensions))
	}
	return fmt.Sprint(logs, len(list), term, string(vote), h.to.Applied(), h.to.has("p1"), h.to.has("p2"),
		h.to.has("p3"), h.to.fail.get())
}

// hostileRequests returns what the hostile member sends, by name. A reader that follows the request is its state.
func (h *hostile) requests() map[string]io.Reader {
	type message struct {
		entries  func(*raft.AppendEntriesRequest)
		snapshot func(r *raft.InstallSnapshotRequest, content []byte) io.Reader
		vote     *raft.RequestVoteRequest
		raw      []byte
	}
	good := func(r *raft.InstallSnapshotRequest, content []byte) io.Reader { return bytes.NewReader(content) }
	all := map[string]message{
		"garbage, it waits":         {raw: bytes.Repeat([]byte{0xA5, 0x5A, 0xFF}, 1000)},
		"unknown kind":              {raw: []byte{9}},
		"a name of 4 GiB, it waits": {raw: append([]byte{sendEntries}, "\x81\xa6Leader\xc6\xff\xff\xff\xff"...)},
		"4 G entries, it waits":     {raw: append([]byte{sendEntries}, "\x81\xa7Entries\xdd\xff\xff\xff\xff"...)},
		"members of 4 GiB, it waits": {raw: append([]byte{sendSnapshot},
			"\x81\xadConfiguration\xc6\xff\xff\xff\xff"...)},
		"deep nesting, it waits": {raw: append([]byte{sendEntries}, append([]byte("\x81\xa1x"),
			bytes.Repeat([]byte{0x91}, 1<<20)...)...)},
		"a term without end": {entries: func(r *raft.AppendEntriesRequest) { r.Term = math.MaxUint64 }},
		"a heartbeat of a term without end": {entries: func(r *raft.AppendEntriesRequest) {
			*r = raft.AppendEntriesRequest{RPCHeader: r.RPCHeader, Term: math.MaxUint64}
		}},
		"a vote in a term without end": {vote: &raft.RequestVoteRequest{RPCHeader: h.header(), Term: math.MaxUint64,
			LastLogIndex: 100, LastLogTerm: 100, LeadershipTransfer: true}},
		"a vote for a long name": {vote: &raft.RequestVoteRequest{RPCHeader: raft.RPCHeader{ProtocolVersion: 3,
			ID: []byte("hostile"), Addr: bytes.Repeat([]byte("x"), 1<<20)}, Term: hostileTerm,
			LastLogIndex: 100, LastLogTerm: 100, LeadershipTransfer: true}},
		"no entry":           {entries: func(r *raft.AppendEntriesRequest) { r.Entries[0] = nil }},
		"an entry far ahead": {entries: func(r *raft.AppendEntriesRequest) { r.Entries[0].Index = 1 << 60 }},
		"a gap":              {entries: func(r *raft.AppendEntriesRequest) { r.Entries[0].Index++ }},
		"a later term":       {entries: func(r *raft.AppendEntriesRequest) { r.Entries[0].Term++ }},
		"unknown type":       {entries: func(r *raft.AppendEntriesRequest) { r.Entries[0].Type = 77 }},
		"members are garbage": {entries: func(r *raft.AppendEntriesRequest) {
			r.Entries[0].Type = raft.LogConfiguration
		}},
		"a wrong checksum": {entries: func(r *raft.AppendEntriesRequest) {
			r.Entries[0].Extensions = []byte("1234")
		}},
		"behind an entry that does not exist": {entries: func(r *raft.AppendEntriesRequest) {
			r.PrevLogEntry, r.Entries[0].Index = 1<<40, 1<<40+1
		}},
		"snapshot: garbage": {snapshot: func(r *raft.InstallSnapshotRequest, content []byte) io.Reader {
			return bytes.NewReader(bytes.Repeat([]byte{0xA5}, len(content)))
		}},
		"snapshot: a bit": {snapshot: func(r *raft.InstallSnapshotRequest, content []byte) io.Reader {
			content[len(content)/2] ^= 1
			return bytes.NewReader(content)
		}},
		"snapshot: it ends early": {snapshot: func(r *raft.InstallSnapshotRequest, content []byte) io.Reader {
			r.Size /= 2
			return bytes.NewReader(content[:r.Size])
		}},
		"snapshot: half, it waits": {snapshot: func(_ *raft.InstallSnapshotRequest, content []byte) io.Reader {
			return bytes.NewReader(content[:len(content)/2])
		}},
		"snapshot: more than a snapshot": {snapshot: func(r *raft.InstallSnapshotRequest, content []byte) io.Reader {
			r.Size += 1 << 20
			return io.MultiReader(bytes.NewReader(content), endless(1<<20))
		}},
		"snapshot: endless": {snapshot: func(r *raft.InstallSnapshotRequest, content []byte) io.Reader {
			r.Size = math.MaxInt64
			return endless(math.MaxInt64)
		}},
		"snapshot: endless behind its end": {snapshot: func(r *raft.InstallSnapshotRequest, content []byte) io.Reader {
			r.Size = math.MaxInt64
			return io.MultiReader(bytes.NewReader(content), endless(math.MaxInt64))
		}},
		"snapshot: another version": {snapshot: func(r *raft.InstallSnapshotRequest, content []byte) io.Reader {
			content[4] = 250
			sum := crc32.Checksum(content[:len(content)-4], crc32.MakeTable(crc32.Castagnoli))
			binary.BigEndian.PutUint32(content[len(content)-4:], sum)
			return bytes.NewReader(content)
		}},
		"snapshot: a part of 4 GiB": {snapshot: func(r *raft.InstallSnapshotRequest, content []byte) io.Reader {
			binary.BigEndian.PutUint64(content[5:], 1<<32-1)
			return bytes.NewReader(content)
		}},
		"snapshot: another group": {snapshot: func(r *raft.InstallSnapshotRequest, _ []byte) io.Reader {
			_, content := h.snapshot("group-2")
			r.Size = int64(len(content))
			return bytes.NewReader(content)
		}},
		"snapshot: empty": {snapshot: func(r *raft.InstallSnapshotRequest, _ []byte) io.Reader {
			r.Size = 0
			return bytes.NewReader(nil)
		}},
		"snapshot: members are garbage": {snapshot: func(r *raft.InstallSnapshotRequest, content []byte) io.Reader {
			r.Configuration = []byte("garbage")
			return good(r, content)
		}},
		"snapshot: no members": {snapshot: func(r *raft.InstallSnapshotRequest, content []byte) io.Reader {
			r.Configuration = raft.EncodeConfiguration(raft.Configuration{})
			return good(r, content)
		}},
		"snapshot: a negative size": {snapshot: func(r *raft.InstallSnapshotRequest, content []byte) io.Reader {
			r.Size = -1
			return good(r, content)
		}},
		"snapshot: far ahead": {snapshot: func(r *raft.InstallSnapshotRequest, content []byte) io.Reader {
			r.LastLogIndex = math.MaxUint64
			return good(r, content)
		}},
		"snapshot: raft's version": {snapshot: func(r *raft.InstallSnapshotRequest, _ []byte) io.Reader {
			r.SnapshotVersion, r.Size = 7, math.MaxInt64
			return endless(math.MaxInt64)
		}},
		"snapshot: of an older term": {snapshot: func(r *raft.InstallSnapshotRequest, _ []byte) io.Reader {
			r.Term, r.LastLogTerm, r.Size = hostileTerm-1, hostileTerm-1, math.MaxInt64
			return endless(math.MaxInt64)
		}},
	}
	requests := map[string]io.Reader{}
	for name, m := range all {
		switch {
		case m.entries != nil:
			r := h.entries(&raft.Log{Data: project("hostile")})
			m.entries(r)
			requests[name] = bytes.NewReader(h.encode(r))
		case m.vote != nil:
			requests[name] = bytes.NewReader(h.encode(m.vote))
		case m.snapshot != nil:
			r, content := h.snapshot("group-1")
			state := m.snapshot(r, content)
			requests[name] = io.MultiReader(bytes.NewReader(h.encode(r)), state)
		default:
			requests[name] = bytes.NewReader(m.raw)
		}
	}
	return requests
}

// TestHostileHandshakes sends garbage in place of a handshake. The connection is closed soon, and little is allocated.
func TestHostileHandshakes(t *testing.T) {
	const mostTime, mostBytes = 5 * time.Second, 8 << 20
	h := newHostile(t)
	hello := append([]byte("CSRH\x04"), make([]byte, 32)...)
	for _, name := range []string{"group-1#1", "hostile", h.to.Member().ID} {
		hello = append(append(hello, byte(len(name))), name...)
	}
	before := h.condition()
	var start, end runtime.MemStats
	runtime.ReadMemStats(&start)
	var tasks sync.WaitGroup
	for name, sent := range map[string]io.Reader{
		"nothing":            bytes.NewReader(nil),
		"zeros":              endless(math.MaxInt64),
		"another protocol":   strings.NewReader("GET / HTTP/1.1\r\n\r\n"),
		"version 255":        strings.NewReader("CSRH\xff" + strings.Repeat("x", 1000)),
		"names of 255 bytes": strings.NewReader("CSRH\x04" + strings.Repeat("\xff", 1000)),
		"half a hello":       bytes.NewReader(hello[:len(hello)/2]),
		"a hello":            bytes.NewReader(hello),
		"garbage after it":   io.MultiReader(bytes.NewReader(hello), strings.NewReader(strings.Repeat("\xa5", 4096))),
		"zeros after it":     io.MultiReader(bytes.NewReader(hello), endless(math.MaxInt64)),
		"it comes twice":     bytes.NewReader(bytes.Repeat(hello, 20)),
		"requests without mac": io.MultiReader(bytes.NewReader(hello),
			bytes.NewReader(bytes.Repeat(h.encode(h.entries()), 20))),
	} {
		if testing.Short() && strings.HasPrefix(name, "a hello") {
			continue // it takes the whole time of a handshake
		}
		c, err := net.Dial("tcp", h.to.Member().Raft)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.SetDeadline(time.Now().Add(mostTime)); err != nil {
			t.Fatal(err)
		}
		tasks.Go(func() { _, _ = io.Copy(c, sent) }) // the other side closes the connection
		tasks.Go(func() {
			_, err := io.Copy(io.Discard, c)
			if late, ok := err.(net.Error); ok && late.Timeout() {
				t.Errorf("%s: the connection stays open", name)
			}
			_ = c.Close()
		})
	}
	tasks.Wait()
	runtime.ReadMemStats(&end)
	if used := end.TotalAlloc - start.TotalAlloc; used > mostBytes {
		t.Errorf("%d MiB allocated", used>>20)
	}
	if after := h.condition(); after != before {
		t.Errorf("the follower changed from\n%s to\n%s", before, after)
	}
	h.send(raft.Log{Data: project("good")})
}

// exchange sends a request, and returns what comes back until the follower closes the connection or answers. If the
// request waits for more, exchange closes the connection.
func (h *hostile) exchange(request io.Reader, deadline time.Time, waits bool) ([]byte, error) {
	c, err := h.Dial(h.address(), 5*time.Second)
	if err != nil {
		h.t.Fatal(err)
	}
	if err := c.SetDeadline(deadline); err != nil {
		h.t.Fatal(err)
	}
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		_, _ = io.Copy(c, request) // the other side may close the connection
		if waits {
			_ = c.Close()
		}
	}()
	answer := make([]byte, 4096)
	n, err := c.Read(answer)
	_ = c.Close()
	<-sent
	return answer[:n], err
}

// TestHostileRequests has a member that knows the cluster token send requests that no correct leader sends. The
// follower must refuse each in bounded time and memory, keep its log, state and vote, and take a good entry next.
func TestHostileRequests(t *testing.T) {
	const mostTime, mostBytes = 5 * time.Second, 64 << 20
	h := newHostile(t)
	before := h.condition()
	for name, request := range h.requests() {
		var start, end runtime.MemStats
		runtime.ReadMemStats(&start)
		began := time.Now()
		answer, err := h.exchange(request, began.Add(mostTime), strings.HasSuffix(name, "it waits"))
		if late, ok := err.(net.Error); ok && late.Timeout() {
			t.Errorf("%s: neither refused nor answered after %v", name, time.Since(began))
		}
		runtime.ReadMemStats(&end)
		if used := end.TotalAlloc - start.TotalAlloc; used > mostBytes {
			t.Errorf("%s: %d MiB allocated", name, used>>20)
		}
		if after := h.condition(); after != before {
			t.Errorf("%s, answered %.80q: the follower changed from\n%s to\n%s", name, answer, before, after)
			before = after
		}
	}
	// A leader of the next term replaces an entry that is committed.
	replace := h.entries(&raft.Log{Data: project("other")})
	replace.PrevLogEntry, replace.Term = 2, h.term+1
	replace.Entries[0].Index, replace.Entries[0].Term = 3, h.term+1
	var replaced raft.AppendEntriesResponse
	err := h.call(func() error {
		return h.trans.AppendEntries(raft.ServerID(h.to.Member().ID), h.address(), replace, &replaced)
	})
	h.term++
	if after := h.condition(); err != nil || replaced.Success || after != before {
		t.Errorf("a committed entry is replaced: %+v, %v, from\n%s to\n%s", replaced, err, before, after)
	}
	h.send(raft.Log{Data: project("good")})
	r, content := h.snapshot("group-1")
	var answer raft.InstallSnapshotResponse
	err = h.call(func() error {
		to, state := raft.ServerID(h.to.Member().ID), bytes.NewReader(content)
		return h.trans.InstallSnapshot(to, h.address(), r, &answer, state)
	})
	if err != nil || !answer.Success || !h.to.has("p3") {
		t.Errorf("a good snapshot: %+v, %v", answer, err)
	}
	h.last, h.lastTerm = r.LastLogIndex, r.LastLogTerm
	h.send(raft.Log{Data: project("after")})
}
