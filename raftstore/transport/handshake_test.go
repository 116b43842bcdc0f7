package transport

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/chainstore/chainstore/masterfsm"
)

func FuzzReadHello(f *testing.F) {
	raw, err := hello{group: "g", caller: "a", callee: "b"}.encode(helloVersion)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add(raw[:len(raw)-1])
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n                                     "))
	f.Fuzz(func(t *testing.T, data []byte) {
		r := bytes.NewReader(data)
		h, raw, err := readHello(r)
		if err != nil {
			if !errors.Is(err, errHandshake) {
				t.Fatalf("%v", err)
			}
			return
		}
		if !bytes.HasPrefix(data, raw) || len(data)-r.Len() != len(raw) {
			t.Fatal("what was read is not what it says")
		}
		again, err := h.encode(raw[len(helloMagic)])
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(again[helloHead:], raw[helloHead:]) {
			t.Fatalf("%x became %x", raw, again)
		}
	})
}

// A caller below the group's level is refused with a message that names it, until the callee's own call shows that
// its program knows the level.
func TestLevelsOfTheHandshake(t *testing.T) {
	stale := func(err error) { t.Error(err) }
	for level := range uint64(masterfsm.ProtocolLevel) {
		t.Run(fmt.Sprint(level), func(t *testing.T) {
			low := openStream(t, "low", "g", testToken, level, stale)
			high := openStream(t, "high", "g", testToken, level+1, stale)
			low.refusal(t, high.address())
			for _, dial := range []struct{ from, to *Stream }{{high, low}, {low, high}, {low, high}} {
				c, err := dial.from.Dial(dial.to.address(), 20*time.Second)
				if err != nil {
					t.Fatal(err)
				}
				_ = c.Close()
			}
		})
	}
	s := openStream(t, "b", "g", testToken, masterfsm.ProtocolLevel, stale)
	group := fmt.Sprintf("level %d", masterfsm.ProtocolLevel)
	for version, want := range map[byte]string{
		helloVersion: "master a runs an older version of ChainStore, which knows protocol level 0; " +
			"the group is at " + group,
		helloVersionStarts: "master a runs an older version of ChainStore, which knows protocol level 1; " +
			"the group is at " + group,
		newestHello + 1: fmt.Sprintf("the caller is at protocol level %d, this program knows up to %s: ",
			masterfsm.ProtocolLevel+1, group) +
			"a newer ChainStore is needed",
	} {
		here, there := net.Pipe()
		raw, err := hello{group: "g", caller: "a", callee: "b"}.encode(version)
		if err != nil {
			t.Fatal(err)
		}
		go there.Write(raw)
		c, err := s.track(here, "", false)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.answer(c, time.Now()); !errors.Is(err, errHandshake) || !strings.Contains(err.Error(), want) {
			t.Errorf("version %d: %v", version, err)
		}
		_, _ = c.Close(), there.Close()
	}
}
