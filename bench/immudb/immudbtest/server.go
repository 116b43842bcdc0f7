// Package immudbtest has a server for tests that answers as an immudb server does, with valid proofs.
package immudbtest

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"maps"
	"net"
	"slices"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// session is the only session of a Server.
const session = "session-1"

// Server keeps every pair that was set. Its fields are set before it serves.
type Server struct {
	Refuse error                           // of sets and gets; nil for none
	Change func(answer *Answer)            // changes the answer to a get; nil for none
	Seen   func(method string, fields int) // is called for each request, with the number of its fields; nil for none

	mu   sync.Mutex // guards the fields below
	txs  []*transaction
	last map[string]place
	keys map[string]int

	databases map[string][2]uint64
	sessions  int
}

// place is the place of a value: in transaction ID tx, from 1 on.
type place struct {
	tx, entry int
	value     []byte
}

type transaction struct {
	header Header
	leaves [][]byte // of its entries
}

// Header is the header of a transaction.
type Header struct {
	ID, Time, Entries, TreeSize, Version uint64
	Previous, EntryRoot, TreeRoot        []byte
}

// Answer is the answer to a verifiable get.
type Answer struct {
	Tx, Leaf, Width   uint64
	Key, Value        []byte
	InEntries, InTree [][]byte
	Source, Target    Header
	Reference         bool
}

// Serve serves on a free port of loopback until the test ends, and returns the address.
func Serve(t *testing.T, s *Server) (addr string) {
	t.Helper()
	s.last, s.keys, s.databases = map[string]place{}, map[string]int{}, map[string][2]uint64{}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(grpc.ForceServerCodec(codec{}), grpc.UnknownServiceHandler(s.handle))
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return listener.Addr().String()
}

// Keys returns how often each key was set.
func (s *Server) Keys() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.keys)
}

// Database returns how many entries a transaction of a database may have, and how many transactions may be made at the
// same time.
func (s *Server) Database(name string) (entries, concurrency uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.databases[name][0], s.databases[name][1]
}

// Sessions returns how many were opened.
func (s *Server) Sessions() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sessions
}

// Transactions returns how many there are.
func (s *Server) Transactions() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.txs)
}

func (s *Server) handle(_ any, stream grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(stream)
	var request []byte
	if err := stream.RecvMsg(&request); err != nil {
		return err
	}
	answer, err := s.answer(stream.Context(), method, request)
	if err != nil {
		return err
	}
	return stream.SendMsg(answer)
}

func (s *Server) answer(ctx context.Context, method string, request []byte) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fields := decode(request)
	if method == "/immudb.schema.ImmuService/OpenSession" {
		if len(fields) != 3 || string(fields[0].bytes) != "immudb" || string(fields[1].bytes) != "immudb" {
			return nil, status.Error(codes.Unauthenticated, "invalid user")
		}
		if name := string(fields[2].bytes); name != "defaultdb" && s.databases[name] == [2]uint64{} {
			return nil, status.Error(codes.Unknown, "database does not exist")
		}
		s.sessions++
		return text(nil, 1, []byte(session)), nil
	}
	if in, _ := metadata.FromIncomingContext(ctx); !slices.Equal(in.Get("sessionid"), []string{session}) {
		return nil, status.Error(codes.PermissionDenied, "no session")
	}
	if method == "/immudb.schema.ImmuService/CloseSession" {
		return nil, nil
	}
	if s.Seen != nil {
		s.Seen(method, len(fields))
	}
	if method == "/immudb.schema.ImmuService/CreateDatabaseV2" {
		settings := decode(fields[1].bytes)
		s.databases[string(fields[0].bytes)] = [2]uint64{
			decode(settings[0].bytes)[0].number, decode(settings[1].bytes)[0].number,
		}
		return nil, nil
	}
	if s.Refuse != nil {
		return nil, s.Refuse
	}
	switch method {
	case "/immudb.schema.ImmuService/Set":
		return s.set(fields).encode(), nil
	case "/immudb.schema.ImmuService/VerifiableGet":
		return s.get(decode(fields[0].bytes)[0].bytes, fields[1].number)
	}
	return nil, status.Error(codes.Unimplemented, method)
}

// set appends a transaction.
func (s *Server) set(pairs []field) Header {
	id := len(s.txs) + 1
	tx := &transaction{}
	for i, pair := range pairs {
		p := decode(pair.bytes)
		key, value := p[0].bytes, p[1].bytes
		hashed := sha256.Sum256(append([]byte{0}, value...))
		digest := binary.BigEndian.AppendUint16([]byte{0, 0}, uint16(1+len(key)))
		digest = append(append(append(digest, 0), key...), hashed[:]...)
		sum := sha256.Sum256(digest)
		tx.leaves = append(tx.leaves, sum[:])
		s.last[string(key)] = place{tx: id, entry: i, value: value}
		s.keys[string(key)]++
	}
	tx.header = Header{
		ID: uint64(id), Time: 1_700_000_000 + uint64(id), Entries: uint64(len(pairs)), Version: 1,
		EntryRoot: root(tx.leaves), TreeSize: uint64(len(s.txs)), TreeRoot: root(s.sums(len(s.txs))),
		Previous: make([]byte, sha256.Size),
	}
	if id > 1 {
		tx.header.Previous = s.txs[id-2].header.sum()
	}
	s.txs = append(s.txs, tx)
	return tx.header
}

// sums returns the hashes of the first n transactions.
func (s *Server) sums(n int) [][]byte {
	var all [][]byte
	for _, tx := range s.txs[:n] {
		all = append(all, tx.header.sum())
	}
	return all
}

func (s *Server) get(key []byte, since uint64) ([]byte, error) {
	at, ok := s.last[string(key)]
	if !ok {
		return nil, status.Error(codes.NotFound, "key not found")
	}
	if since <= uint64(at.tx) || since > uint64(len(s.txs)) {
		return nil, status.Error(codes.InvalidArgument, fmt.Sprintf("transaction %d", since))
	}
	tx, target := s.txs[at.tx-1], s.txs[since-1]
	a := Answer{
		Tx: uint64(at.tx), Key: key, Value: at.value, Leaf: uint64(at.entry), Width: uint64(len(tx.leaves)),
		InEntries: path(tx.leaves, at.entry), Source: tx.header, Target: target.header,
		InTree: path(s.sums(int(target.header.TreeSize)), at.tx-1),
	}
	if s.Change != nil {
		s.Change(&a)
	}
	return a.encode(), nil
}

func (h Header) sum() []byte {
	var b []byte
	b = binary.BigEndian.AppendUint64(b, h.Time)
	b = binary.BigEndian.AppendUint16(b, uint16(h.Version))
	b = binary.BigEndian.AppendUint32(append(b, 0, 0), uint32(h.Entries))
	b = append(b, h.EntryRoot...)
	b = append(binary.BigEndian.AppendUint64(b, h.TreeSize), h.TreeRoot...)
	inner := sha256.Sum256(b)
	b = append(binary.BigEndian.AppendUint64(nil, h.ID), h.Previous...)
	sum := sha256.Sum256(append(b, inner[:]...))
	return sum[:]
}

func (h Header) encode() []byte {
	b := text(number(nil, 1, h.ID), 2, h.Previous)
	b = text(number(number(b, 3, h.Time), 4, h.Entries), 5, h.EntryRoot)
	b = text(number(b, 6, h.TreeSize), 7, h.TreeRoot)
	return number(b, 8, h.Version)
}

func (a Answer) encode() []byte {
	entry := text(text(number(nil, 1, a.Tx), 2, a.Key), 3, a.Value)
	if a.Reference {
		entry = text(entry, 4, number(nil, 1, 7))
	}
	dual := text(text(nil, 1, a.Source.encode()), 2, a.Target.encode())
	for _, h := range a.InTree {
		dual = text(dual, 3, h)
	}
	inclusion := number(number(nil, 1, a.Leaf), 2, a.Width)
	for _, h := range a.InEntries {
		inclusion = text(inclusion, 3, h)
	}
	return text(text(text(nil, 1, entry), 2, text(nil, 2, dual)), 3, inclusion)
}

// root returns the root of a tree, RFC 6962, section 2.1.
func root(leaves [][]byte) []byte {
	switch len(leaves) {
	case 0:
		return make([]byte, sha256.Size)
	case 1:
		sum := sha256.Sum256(append([]byte{0}, leaves[0]...))
		return sum[:]
	}
	k := split(len(leaves))
	sum := sha256.Sum256(slices.Concat([]byte{1}, root(leaves[:k]), root(leaves[k:])))
	return sum[:]
}

// path returns the inclusion proof of a leaf, RFC 6962, section 2.1.1.
func path(leaves [][]byte, i int) [][]byte {
	if len(leaves) <= 1 {
		return nil
	}
	k := split(len(leaves))
	if i < k {
		return append(path(leaves[:k], i), root(leaves[k:]))
	}
	return append(path(leaves[k:], i-k), root(leaves[:k]))
}

// split returns the largest power of two below n.
func split(n int) int {
	k := 1
	for 2*k < n {
		k *= 2
	}
	return k
}

// field is a field of a message.
type field struct {
	number uint64
	bytes  []byte
}

// decode returns the fields of a request. It panics if they are malformed.
func decode(b []byte) (all []field) {
	for len(b) > 0 {
		tag, n := binary.Uvarint(b)
		v, m := binary.Uvarint(b[n:])
		b = b[n+m:]
		f := field{number: v}
		if tag&7 == 2 {
			f.bytes, b = b[:v], b[v:]
		}
		all = append(all, f)
	}
	return all
}

func number(b []byte, field int, v uint64) []byte {
	if v == 0 {
		return b
	}
	return binary.AppendUvarint(binary.AppendUvarint(b, uint64(field)<<3), v)
}

func text(b []byte, field int, v []byte) []byte {
	b = binary.AppendUvarint(binary.AppendUvarint(b, uint64(field)<<3|2), uint64(len(v)))
	return append(b, v...)
}

// codec passes encoded messages on.
type codec struct{}

func (codec) Name() string { return "proto" }

func (codec) Marshal(v any) ([]byte, error) { return v.([]byte), nil }

func (codec) Unmarshal(b []byte, v any) error {
	*v.(*[]byte) = slices.Clone(b)
	return nil
}
