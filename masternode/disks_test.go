package masternode

import (
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chainstore/chainstore/masternode/internal/masterstest"
	"github.com/chainstore/chainstore/wire"
)

// TestFullDisks checks that a leader refuses appends while its disk is full, or those of so many masters that the
// others are no majority; that it reports each disk that is full, or nearly; and that appends go on when there is room.
func TestFullDisks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		low := wire.Disk{Free: 500 << 20, Total: 1 << 40, State: wire.DiskLow}
		full := wire.Disk{Free: 5 << 20, Total: 1 << 40, State: wire.DiskFull}
		room := wire.Disk{Free: 1 << 39, Total: 1 << 40, State: wire.DiskOK}
		var own atomic.Pointer[wire.Disk]
		own.Store(&room)
		masters := newGroupMasters()
		r := newRig(t, 3, func(c *Config, _ *rig) {
			c.Masters, c.Disk = masters, func() wire.Disk { return *own.Load() }
		})
		defer r.stop()
		r.join(t, masters, "m2", "m3")
		set := func(disk wire.Disk, ids ...string) {
			masters.mu.Lock()
			for _, id := range ids {
				masters.disks[id] = disk
			}
			masters.mu.Unlock()
			time.Sleep(30 * time.Second)
		}
		node := r.Cluster(t.Context()).Storages[1]
		check := func(when string, taken bool, want ...string) {
			t.Helper()
			_, err := r.Append(t.Context(), r.project, []Entry{{Payload: []byte(when)}}, "")
			if taken != (err == nil) || err != nil && !errors.Is(err, wire.ErrNoSpace) {
				t.Errorf("%s: append: %v", when, err)
			}
			var got []string
			for _, m := range r.Cluster(t.Context()).NoticesCoded {
				switch m.Code {
				case wire.CodeDiskLow, wire.CodeDiskFull:
					got = append(got, m.Code+" "+m.Args["node"].(string))
				case wire.CodeMastersFull:
					got = append(got, m.Code)
				}
			}
			slices.Sort(got)
			if !slices.Equal(got, want) {
				t.Errorf("%s: notices %v, want %v", when, got, want)
			}
		}
		check("at first", true)
		set(low, "m2")
		check("a follower is low", true, "disk-low m2")
		set(full, "m2")
		check("one of three is full", true, "disk-full m2")
		set(full, "m3")
		check("two of three are full", false, "disk-full m2", "disk-full m3", "masters-full")
		set(room, "m2", "m3")
		check("they have room", true)
		own.Store(&full)
		if _, err := r.Append(t.Context(), r.project, []Entry{{Payload: []byte("x")}}, ""); !errors.Is(err,
			wire.ErrNoSpace) {
			t.Errorf("at once: %v", err)
		}
		time.Sleep(30 * time.Second)
		check("the leader is full", false, "disk-full m1", "masters-full")
		own.Store(&room)
		time.Sleep(30 * time.Second)
		check("it has room", true)
		r.on(node.URL, func(s *masterstest.Storage) {
			s.LieStatus = func(st *wire.StorageStatus) { st.Disk = full }
		})
		time.Sleep(30 * time.Second)
		check("a storage node is full", true, "disk-full "+node.ID)
		c, f := r.Cluster(t.Context()), r.Figures()
		if c.Storages[1].Disk != full || f.Disks[node.ID] != full || f.Disk != room {
			t.Errorf("%+v, %+v", c.Storages[1], f)
		}
	})
}
