package console

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/internal/fakecluster"
	"github.com/chainstore/chainstore/wire"
)

// TestScreenshots writes screenshots of the console to the folder in CHAINSTORE_SCREENSHOTS. They show a fake cluster
// with sample data while appends are running. Screenshots that no document uses go to the subfolder more.
func TestScreenshots(t *testing.T) {
	folder := os.Getenv("CHAINSTORE_SCREENSHOTS")
	if folder == "" {
		t.Skip("no folder for pictures: CHAINSTORE_SCREENSHOTS is not set")
	}
	if err := os.MkdirAll(filepath.Join(folder, "more"), 0o755); err != nil {
		t.Fatal(err)
	}
	f := startFake(t)
	f.Change(f.tell)
	f.act(exampleAct())
	b := openBrowser(t, f.URLs())
	stop := make(chan struct{})
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		f.goOn(stop)
	}()
	defer func() {
		close(stop)
		<-stopped
	}()
	b.prefer("light")
	b.open(f.URLs()[0])
	b.giveTokens(f.tokensOf("clinic")[""], fakecluster.AdminToken)
	b.goTo("overview")
	b.see("a minute of samples", `(await import('/console/js/status.js')).status.samples.length >= 55`)
	for _, shot := range []struct {
		name, page, scheme, language string
		width, height                int64
		before                       func()
	}{
		{"console-overview", "overview", "light", "en", 1280, 1060, nil},
		{"console-overview-dark-zh", "overview", "dark", "zh", 1280, 1000, nil},
		{"more/chain", "chain", "light", "en", 1280, 800, nil},
		{"more/block", "block/3", "light", "en", 1280, 900, nil},
		{"more/record", "record/1/1", "light", "en", 1280, 1000, func() {
			b.verify("good")
			eval[bool](b, `(document.querySelectorAll('.step details')[4].open = true)`)
		}},
		{"console-record-dark-zh", "record/0/1", "dark", "zh", 1280, 900, func() { b.verify("good") }},
		{"more/picture", "record/2/1", "dark", "en", 1280, 900, nil},
		{"more/add", "add", "light", "en", 1280, 800, func() {
			b.fill("key", "patient/4711")
			b.fill("text", "dose 2 of 3 given by Ada")
			b.press("Append")
			b.text(".receipt")
		}},
		{"more/find", "find?by=key&key=patient%2F4711", "light", "en", 1280, 800, nil},
		{"more/projects", "projects", "light", "en", 1280, 900, nil},
		{"more/project", "projects/1", "dark", "en", 1280, 900, nil},
		{"more/audit", "audit", "light", "en", 1280, 900, nil},
		{"console-integrity", "integrity", "light", "en", 1280, 1000, nil},
		{"more/integrity-dark-zh", "integrity", "dark", "zh", 1280, 1000, nil},
		{"console-phone", "overview", "light", "en", 360, 1280, nil},
		{"more/phone-integrity", "integrity", "light", "en", 360, 1280, nil},
		{"more/phone-chain", "chain", "dark", "en", 360, 900, nil},
		{"more/phone-add", "add", "light", "zh", 360, 900, nil},
		{"more/tablet-overview", "overview", "dark", "en", 820, 1180, nil},
		{"more/phone-record", "record/1/1", "dark", "zh", 360, 1280, func() { b.verify("good") }},
		{"more/token", "overview", "light", "en", 1280, 900, func() {
			b.click("#token-button")
			b.see("the box", `document.querySelector('dialog[open]')`)
		}},
	} {
		b.prefer(shot.scheme)
		b.size(shot.width, shot.height)
		b.click(".choice button[lang=" + shot.language + "]")
		b.goTo(shot.page)
		if shot.before != nil {
			shot.before()
		}
		b.see("no passing note", `!document.querySelector('.toast')`)
		eval[bool](b, `(document.activeElement.blur(), scrollTo(0, 0), true)`)
		picture, err := chromedp.Run(b.ctx, chromedp.CaptureScreenshot())
		if err == nil {
			err = os.WriteFile(filepath.Join(folder, shot.name+".png"), picture, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	f.Kill(0) // the screenshots show the first master; the test log shows that the page kept working
}

// tell fills the fake cluster with sample data: the audit trail of a clinic, and a node that was damaged and repaired.
func (f *fakeCluster) tell() {
	p := f.Projects[0]
	p.Name, p.Quota = "clinic", wire.Quota{RecordsPerSecond: 500, RecordBytes: 262_144}
	f.AddToken(p, "ward 3", []string{"append"}, "")
	f.AddToken(p, "auditor", []string{"read"}, "")
	lab := f.AddProject("lab", true, "")
	f.AddProject("archive-2025", false, "")
	f.Append(p, "patient/4711", "text/plain; charset=utf-8", []byte("admitted to ward 3 by Ada Okafor"))
	f.Append(p, "patient/4711", "application/json", []byte(`{"patient":4711,"drug":"amoxicillin","dose_mg":500,`+
		`"given_by":"A. Okafor","witness":"L. Brandt","route":"oral"}`))
	f.Append(lab, "sample/88-C", "text/csv",
		[]byte("sample,analyte,value,unit\n88-C,potassium,4.1,mmol/L\n88-C,sodium,139,mmol/L\n"))
	f.Append(p, "door/7", "text/plain; charset=utf-8", []byte("opened 07:58, badge 1180"))
	f.Append(p, "door/7", "text/plain; charset=utf-8", []byte("closed 08:04"))
	f.Append(p, "patient/4711", "application/json", []byte(`{"patient":4711,"temperature_c":38.2,"pulse":91,`+
		`"blood_pressure":[128,82],"measured":"2026-11-26T08:10:00Z","device":{"id":"BP-22","calibrated":true}}`))
	f.Append(lab, "sample/88-D", "application/octet-stream", bytes.Repeat([]byte{0x4d, 0x5a, 0x00, 0xff, 0x10}, 40))
	f.Append(p, "pump/12", "text/plain; charset=utf-8", []byte("rate set to 40 ml/h"))
	f.Append(p, "pump/12", "text/plain; charset=utf-8", []byte("alarm: line occluded"))
	f.Append(p, "scan/19", "image/png", scan())
	for i := range 300 {
		f.Append(p, fmt.Sprintf("patient/%d", 4700+i%23), "text/plain; charset=utf-8",
			fmt.Appendf(nil, "observation %d entered", i))
	}
	f.Lag = 2
	now := uint64(time.Now().UnixMilli())
	hurt := &f.Integrity.Nodes[1]
	hurt.State, hurt.Bad = "receiving", []chain.Range{{From: 7, To: 8}}
	hurt.CauseCoded = damaged(hurt.Bad...)
	hurt.Height = 70
	hurt.Task = &wire.Task{Kind: "receive", Peer: "s-0", Blocks: 3, Height: 77, Bytes: 1_310_720, Total: 2_621_440,
		Millis: 412}
	f.Integrity.Events = []wire.Event{
		{Number: 4, Time: now - 4_000, Kind: wire.EventFinding, Node: "s-1", URL: hurt.URL, CauseCoded: hurt.CauseCoded,
			Findings: []wire.Finding{
				{Block: 7, What: "payload", Detail: "record 2 does not fit its leaf"},
			}, Ranges: []chain.Range{{From: 7, To: 8}}, Bytes: 5_242_880, Millis: 164},
		{Number: 3, Time: now - 3_600_000, Kind: wire.EventRepair, Node: "s-2", URL: f.Integrity.Nodes[2].URL,
			Source: "s-0", Ranges: []chain.Range{{From: 12, To: 14}}, Bytes: 8_192, Millis: 88},
		{Number: 2, Time: now - 3_612_000, Kind: wire.EventFinding, Node: "s-2", URL: f.Integrity.Nodes[2].URL,
			CauseCoded: damaged(chain.Range{From: 12, To: 14}), Ranges: []chain.Range{{From: 12, To: 14}}, Millis: 201},
		{Number: 1, Time: now - 3_640_000, Kind: wire.EventSuspect, Node: "s-2", URL: f.Integrity.Nodes[2].URL,
			CauseCoded: wire.Message{Code: wire.CodeUncleanStop}},
	}
}

// goOn appends at a varying rate until stop is closed.
func (f *fakeCluster) goOn(stop <-chan struct{}) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		f.Change(func() {
			for range (i / 60 % 4) * (i / 13 % 3) / 2 {
				f.Append(f.Projects[0], fmt.Sprintf("patient/%d", 4700+i%23), "text/plain; charset=utf-8",
					fmt.Appendf(nil, "observation %d entered", i))
			}
		})
	}
}

// scan returns a small image.
func scan() []byte {
	img := image.NewGray(image.Rect(0, 0, 360, 240))
	for y := range 240 {
		for x := range 360 {
			dx, dy := float64(x-180), float64(y-120)*1.3
			img.SetGray(x, y, color.Gray{Y: uint8(max(0, 235-(dx*dx+dy*dy)/90) * (0.7 + 0.3*float64((x/9+y/7)%2)))})
		}
	}
	var out bytes.Buffer
	if err := png.Encode(&out, img); err != nil {
		panic(err)
	}
	return out.Bytes()
}
