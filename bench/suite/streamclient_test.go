package suite

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chainstore/chainstore/wire"
)

// streamServer answers append streams of frames. It counts the records, and checks that they differ and how many have
// no answer.
type streamServer struct {
	t *testing.T

	mu      sync.Mutex
	records map[string]bool
	next    map[string]uint64 // of each stream
	cut     int               // the first request ends after so many records
}

func (s *streamServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	out := http.NewResponseController(w)
	if err := out.EnableFullDuplex(); err != nil {
		s.t.Error(err)
	}
	id := r.URL.Query().Get("stream")
	s.mu.Lock()
	number := max(1, s.next[id])
	s.mu.Unlock()
	if first := r.URL.Query().Get("first"); first != fmt.Sprint(number) || r.URL.Path != "/v1/records:stream" ||
		r.Header.Get("Content-Type") != wire.TypeFrames || r.Header.Get("Authorization") != "Bearer token" {
		s.t.Errorf("%s, want first=%d; %v", r.URL, number, r.Header)
	}
	w.Header().Set("Content-Type", wire.TypeNDJSON)
	frame := make([]byte, wire.FrameOverhead+payloadSize)
	for {
		if _, err := io.ReadFull(r.Body, frame); err != nil {
			if err == io.EOF {
				fmt.Fprintf(w, "{\"number\":%d,\"end\":true}\n", number-1)
				_ = out.Flush() // chunked, also if there was no record within the time
			}
			return
		}
		s.mu.Lock()
		key := string(frame)
		if err := isPayload(frame[wire.FrameOverhead:]); err != nil || s.records[key] {
			s.t.Errorf("%v, seen before: %v", err, s.records[key])
		}
		s.records[key] = true
		if s.cut > 0 {
			if s.cut--; s.cut == 0 {
				s.mu.Unlock()
				if conn, _, err := out.Hijack(); err != nil || conn.Close() != nil {
					s.t.Error("the connection is not cut")
				}
				return
			}
		}
		s.next[id] = number + 1
		s.mu.Unlock()
		fmt.Fprintf(w, "{\"number\":%d,\"block\":1,\"offset\":2,\"index\":3}\n", number)
		_ = out.Flush()
		number++
	}
}

// TestStreamsCountWhatIsAnswered runs streams at least twice, as a warm-up and a run. Each continues the one before.
func TestStreamsCountWhatIsAnswered(t *testing.T) {
	s := &streamServer{t: t, records: map[string]bool{}, next: map[string]uint64{}}
	addr, _ := serve(t, s.ServeHTTP)
	f := fleet{newStreamClient(addr, "token", 1), newStreamClient(addr, "token", 2)}
	total := uint64(0)
	for runs := 0; runs < 2 || total < 4*streamWindow; runs++ { // a busy machine has few records in a run
		got := load(t, f, 100*time.Millisecond)
		if got.errors > 0 {
			t.Fatalf("%d errors, the first %v; %d answers", got.errors, got.first, got.answered)
		}
		total += got.answered
	}
	if n := uint64(len(s.records)); n != total || len(s.next) != 2 {
		t.Errorf("%d records of %d streams, %d answers", n, len(s.next), total)
	}
}

// TestStreamsCountErrors checks that a stream that is cut counts as an error, and that another one follows.
func TestStreamsCountErrors(t *testing.T) {
	s := &streamServer{t: t, records: map[string]bool{}, next: map[string]uint64{}, cut: 500}
	addr, _ := serve(t, s.ServeHTTP)
	f := fleet{newStreamClient(addr, "token", 1)}
	errors, answered := 0, uint64(0)
	for answered < 1000 {
		got := load(t, f, 100*time.Millisecond)
		errors, answered = errors+got.errors, answered+got.answered
	}
	if errors != 1 || len(s.next) != 2 {
		t.Errorf("%d errors, %d answers, %d streams", errors, answered, len(s.next))
	}
	addr, _ = serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Connection", "close") // the answer does not wait for the body
		http.Error(w, "no such thing", http.StatusNotFound)
	})
	got := load(t, fleet{newStreamClient(addr, "token", 1)}, 50*time.Millisecond)
	if got.errors == 0 || got.answered != 0 || !strings.Contains(got.first.Error(), "404") {
		t.Errorf("%d errors, the first %v; %d answers", got.errors, got.first, got.answered)
	}
}
