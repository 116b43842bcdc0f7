package render

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// ShapeHelp makes the help of all commands fit a terminal of 80 columns, and shows boolean flags without values.
// Examples do not change.
func ShapeHelp(root *cobra.Command) {
	root.SetUsageTemplate(strings.ReplaceAll(root.UsageTemplate(), ".FlagUsages ",
		fmt.Sprintf(".FlagUsagesWrapped %d ", StandardWidth)))
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		cmd.InitDefaultHelpFlag()
		cmd.Long = reflow(cmd.Long, StandardWidth)
		for _, flags := range []*pflag.FlagSet{cmd.Flags(), cmd.PersistentFlags()} {
			flags.VisitAll(func(f *pflag.Flag) {
				if _, done := f.Value.(plainSwitch); f.Value.Type() == "bool" && !done {
					f.Value = plainSwitch{f.Value}
				}
			})
		}
		for _, c := range cmd.Commands() {
			walk(c)
		}
	}
	walk(root)
}

// plainSwitch is a boolean flag whose help is "--json" and not "--json[=true|false]", which pflag prints for the types
// that it knows. Parsing does not change, since it depends on NoOptDefVal.
type plainSwitch struct{ pflag.Value }
