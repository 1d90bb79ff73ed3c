//go:build !race

package testmode

const raceDetector = false
