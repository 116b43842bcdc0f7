package noderpc

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/wire"
)

// hostileAnswers are answers of a node that is faulty, as it writes them to a connection until that is closed.
var hostileAnswers = map[string]func(io.Writer) error{
	"a body without end": func(w io.Writer) error {
		if _, err := io.WriteString(w, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n"); err != nil {
			return err
		}
		return forever(w, bytes.Repeat([]byte("[{},{},{},{},"), 1000))
	},
	"an error with a body without end": func(w io.Writer) error {
		head := "HTTP/1.1 409 Conflict\r\nContent-Type: application/problem+json\r\n\r\n"
		if _, err := io.WriteString(w, head); err != nil {
			return err
		}
		return forever(w, bytes.Repeat([]byte(" "), 1000))
	},
	"chunks without end": func(w io.Writer) error {
		if _, err := io.WriteString(w, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"); err != nil {
			return err
		}
		return forever(w, []byte("1\r\n1\r\n"))
	},
	"headers without end": func(w io.Writer) error {
		if _, err := io.WriteString(w, "HTTP/1.1 200 OK\r\n"); err != nil {
			return err
		}
		return forever(w, []byte("X-A: "+strings.Repeat("a", 1000)+"\r\n"))
	},
	"early answers without end": func(w io.Writer) error {
		return forever(w, []byte("HTTP/1.1 102 Processing\r\n\r\n"))
	},
	"a byte now and then": func(w io.Writer) error {
		if _, err := io.WriteString(w, "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"); err != nil {
			return err
		}
		for {
			if _, err := w.Write([]byte("1")); err != nil {
				return err
			}
			time.Sleep(20 * time.Millisecond)
		}
	},
	"a huge Content-Length": func(w io.Writer) error {
		_, err := io.WriteString(w, "HTTP/1.1 200 OK\r\nContent-Length: 9000000000000000000\r\n\r\n")
		return err
	},
	"a large Content-Length": func(w io.Writer) error {
		_, err := io.WriteString(w, "HTTP/1.1 200 OK\r\nContent-Length: 120000000\r\n\r\n[")
		return err
	},
	"deeply nested JSON": whole([]byte(strings.Repeat("[", 900_000))),
	"a list of many":     whole([]byte(`{"report":{"findings":[` + strings.Repeat("{},", 330_000) + `{}]}}`)),
	"a longer list":      whole([]byte(`{"report":{"findings":[` + strings.Repeat("{},", 5_000_000) + `{}]}}`)),
	"zeros":              whole(make([]byte, 900_000)),
	"ones":               whole(bytes.Repeat([]byte{0xff}, 900_000)),
	"a compressed body": func(w io.Writer) error { // it must not be decompressed
		head := "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\n"
		_, err := io.WriteString(w, head+"\x1f\x8b\x08\x00")
		return err
	},
	"no answer":    func(io.Writer) error { return nil },
	"not HTTP":     func(w io.Writer) error { return forever(w, []byte("SSH-2.0-x\r\n")) },
	"nothing else": whole(nil),
}

// slowAnswers are the answers that end only when the caller gives up.
var slowAnswers = map[string]bool{
	"a byte now and then": true, "a large Content-Length": true, "early answers without end": true, "no answer": true,
	"not HTTP": true, "headers without end": true, "chunks without end": true,
}

func forever(w io.Writer, data []byte) error {
	for {
		if _, err := w.Write(data); err != nil {
			return err
		}
	}
}

func whole(body []byte) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		return err
	}
}

// hostileNode listens at the returned URL, reads the head of each request, and answers it. If it waits, it keeps the
// connection then until the caller gives up.
func hostileNode(t *testing.T, answer func(io.Writer) error, waits bool) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = conn.Close() }()
				if _, err := conn.Read(make([]byte, 64<<10)); err != nil {
					return
				}
				if answer(conn) == nil && waits {
					_, _ = io.Copy(io.Discard, conn)
				}
			}()
		}
	}()
	return "http://" + listener.Addr().String()
}

// TestHostileAnswers checks that each call to another node ends in time, and takes a bounded amount of memory, whatever
// that node answers.
func TestHostileAnswers(t *testing.T) {
	const patience, most = 500 * time.Millisecond, 160 << 20
	workers, masters, witnesses := newWorkers(t), newMasters(t), NewWitnesses()
	var order wire.Order
	type worker = wire.Worker
	type ctx = context.Context
	calls := map[string]func(c ctx, url string) error{
		"status": func(c ctx, url string) error {
			return second(workers.StorageStatus(c, worker{URL: url}, order))
		},
		"miner status": func(c ctx, url string) error {
			return second(workers.MinerStatus(c, worker{URL: url}, order))
		},
		"put": func(c ctx, url string) error {
			return second(workers.PutBlock(c, worker{URL: url}, order, 1, make([]byte, 100)))
		},
		"records": func(c ctx, url string) error {
			return second(workers.ReadRecords(c, worker{URL: url}, make([]wire.Place, 3)))
		},
		"headers": func(c ctx, url string) error { return second(workers.Headers(c, worker{URL: url}, 0, 64, 9)) },
		"locate":  func(c ctx, url string) error { return second(workers.Locate(c, worker{URL: url}, 3)) },
		"tiles": func(c ctx, url string) error {
			return second(workers.ReadTiles(c, worker{URL: url}, []tlog.Tile{{H: 8, W: 256}}))
		},
		"entries": func(c ctx, url string) error { return second(workers.Entries(c, worker{URL: url}, 0, 256)) },
		"find": func(c ctx, url string) error {
			return second(workers.FindRecords(c, worker{URL: url}, wire.RecordQuery{To: 3, Limit: 3}))
		},
		"find hash": func(c ctx, url string) error {
			return second(workers.FindHash(c, worker{URL: url}, chain.Hash{}))
		},
		"mine": func(c ctx, url string) error {
			return second(workers.Mine(c, worker{URL: url}, order, wire.MineOrder{}))
		},
		"check": func(c ctx, url string) error {
			return second(workers.Check(c, worker{URL: url}, order, wire.CheckOrder{}))
		},
		"receive": func(c ctx, url string) error {
			return second(workers.Receive(c, worker{URL: url}, order, wire.ReceiveOrder{}))
		},
		"send": func(c ctx, url string) error {
			return second(workers.Send(c, worker{URL: url}, order, wire.SendOrder{}))
		},
		"transfer": func(c ctx, url string) error {
			return workers.Transfer(c, url, "ticket", func(w io.Writer) error {
				return second(w.Write(make([]byte, 100)))
			})
		},
		"member":     func(c ctx, url string) error { return second(masters.Member(c, url)) },
		"read index": func(c ctx, url string) error { return second(masters.ReadIndex(c, url)) },
		"cluster":    func(c ctx, url string) error { return second(masters.Cluster(c, url)) },
		"integrity":  func(c ctx, url string) error { return second(masters.Integrity(c, url)) },
		"register": func(c ctx, url string) error {
			return second(masters.Register(c, url, wire.Registration{}, false))
		},
		"submit": func(c ctx, url string) error { return second(masters.Submit(c, url, make([]byte, 100), true)) },
		"witness": func(c ctx, url string) error {
			return second(witnesses.AddCheckpoint(c, url, 0, nil, make([]byte, 100)))
		},
	}
	for name, answer := range hostileAnswers {
		url := hostileNode(t, answer, slowAnswers[name])
		try := func(call string) {
			began := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			err := calls[call](ctx, url)
			if took := time.Since(began); took > time.Minute {
				t.Errorf("%s, answered with %s: it took %v (%v)", call, name, took, err)
			}
		}
		measure := func(what string, most uint64, f func()) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			f()
			runtime.ReadMemStats(&after)
			if grown := after.TotalAlloc - before.TotalAlloc; grown > most {
				t.Errorf("%s, answered with %s: %d MiB were allocated", what, name, grown>>20)
			}
		}
		if slowAnswers[name] {
			measure("all calls", 4*most, func() {
				var asking sync.WaitGroup
				for call := range calls {
					asking.Go(func() { try(call) })
				}
				asking.Wait()
			})
			continue
		}
		for call := range calls {
			limit := uint64(most)
			if call == "records" { // a record may be large
				limit = 2 * most
			}
			measure(call, limit, func() { try(call) })
		}
	}
}

func second[T any](_ T, err error) error { return err }
