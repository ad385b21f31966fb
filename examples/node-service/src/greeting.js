"use strict";

exports.greeting = "hello from node";
