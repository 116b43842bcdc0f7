package cli

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// UntilSecondInterrupt returns a context for what a command completes after the first interrupt, which has ended ctx or
// is going to. It ends with the second one. release must be called when it is no longer used: until then no interrupt
// ends the process.
func UntilSecondInterrupt(ctx context.Context) (late context.Context, release context.CancelFunc) {
	late, cancel := context.WithCancel(context.WithoutCancel(ctx))
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	awaited := 2
	if ctx.Err() != nil { // the first one came before
		awaited = 1
	}
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		for ; awaited > 0; awaited-- {
			select {
			case <-signals:
			case <-late.Done():
				return
			}
		}
		cancel()
	}()
	return late, func() {
		signal.Stop(signals)
		cancel()
		<-watched
	}
}
