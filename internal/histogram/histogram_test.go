package histogram

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
)

// TestNames checks that the names, types and helps follow the rules of Prometheus, and that each histogram is
// collected.
func TestNames(t *testing.T) {
	m := NewMaster()
	problems, err := testutil.CollectAndLint(m)
	if err != nil || len(problems) > 0 {
		t.Errorf("%+v, %v", problems, err)
	}
	if n := testutil.CollectAndCount(m); n != 8 {
		t.Errorf("%d histograms are collected, not 8", n)
	}
	var none Master
	none.Append.Observe(1)
	if n := testutil.CollectAndCount(&none); n != 0 {
		t.Errorf("%d histograms of none are collected", n)
	}
}

// TestDuration checks that a duration is counted in seconds in its bucket, and that a failed operation is not counted.
func TestDuration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := ofDurations("wait", "a wait")
		operation := func(took time.Duration, fails error) (err error) {
			defer d.Done(time.Now(), &err)
			time.Sleep(took)
			return fails
		}
		for _, took := range []time.Duration{90 * time.Microsecond, time.Millisecond, time.Minute} {
			if err := operation(took, nil); err != nil {
				t.Fatal(err)
			}
		}
		if err := operation(time.Hour, errors.New("failed")); err == nil {
			t.Fatal("no error")
		}
		var m dto.Metric
		if err := d.observed.Write(&m); err != nil {
			t.Fatal(err)
		}
		h := m.Histogram
		if h.GetSampleCount() != 3 || h.GetSampleSum() < 60.00108 || h.GetSampleSum() > 60.0011 {
			t.Errorf("count %d, sum %v", h.GetSampleCount(), h.GetSampleSum())
		}
		for _, b := range h.Bucket {
			want := uint64(1)
			if b.GetUpperBound() >= 0.001 {
				want = 2
			}
			if b.GetCumulativeCount() != want {
				t.Errorf("bucket %v has %d, not %d", b.GetUpperBound(), b.GetCumulativeCount(), want)
			}
		}
	})
}

// TestObserveAllocatesNothing checks that a measurement allocates nothing.
func TestObserveAllocatesNothing(t *testing.T) {
	d := ofDurations("wait", "a wait")
	if n := testing.AllocsPerRun(100, func() { _ = measured(d) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func measured(d Histogram) (err error) {
	defer d.Done(time.Now(), &err)
	return nil
}

// BenchmarkDone measures an operation that does nothing, clock included, by one goroutine and by all processors.
func BenchmarkDone(b *testing.B) {
	d := ofDurations("wait", "a wait")
	b.Run("serial", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_ = measured(d)
		}
	})
	b.Run("parallel", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				_ = measured(d)
			}
		})
	})
}

var _ prometheus.Collector = (*Master)(nil)
