// spawn COMMAND...: three children that Wait reaps, then three that are read to the end of their output only.
package main

import (
	"io"
	"os"
	"os/exec"
)

func main() {
	for i := 0; i < 3; i++ {
		if exec.Command(os.Args[1], os.Args[2:]...).Run() != nil {
			os.Exit(1)
		}
	}
	for i := 0; i < 3; i++ {
		child := exec.Command(os.Args[1], os.Args[2:]...)
		output, err := child.StdoutPipe()
		if err != nil || child.Start() != nil {
			os.Exit(1)
		}
		io.Copy(io.Discard, output)
	}
}
